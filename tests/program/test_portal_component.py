"""The portal as the engine is told of it: the hub, a pusher on each site, and who holds what of their tokens."""

import base64
import hashlib
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi_kubernetes import Provider

from components import portal
from components.portal import Portal, PortalArgs
from components.pusher import Pusher, PusherArgs
from local.authority import Authority, pem
from local.site import portal_command
from services.portal.gate import Gate, digest
from services.portal.main import options as hub_options
from services.pusher.options import options as pusher_options
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

DEPLOYMENT, SECRET = "kubernetes:apps/v1:Deployment", "kubernetes:core/v1:Secret"
POLICY, SERVICE = "kubernetes:networking.k8s.io/v1:NetworkPolicy", "kubernetes:core/v1:Service"
CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"
IMAGE = f"registry.example.org/atlas/services@sha256:{'0' * 64}"
COMMON = {"namespace": "a", "priority": "a-service", "image": IMAGE}


def hub(**more: Any) -> Monitor:
    given: dict[str, Any] = {"site": "a", **COMMON, "sites": ["a", "b"]}
    return deploy(lambda: Portal("a-portal", PortalArgs(**{**given, **more})))


def pusher(**more: Any) -> Monitor:
    def declare() -> None:
        far = Provider("far", kubeconfig="{}")
        given: dict[str, Any] = {
            "site": "a",
            **COMMON,
            "atlas_site": "A-PROD",
            "address": portal.address("hub"),
            "seconds": 30,
            "squids": 2,
            "credentials": "http://credentials.a.svc.cluster.local:8080/metrics",
            "accounting": None,
            "hub": "hub",
            "hub_site": "hub",
            "on_hub": pulumi.ResourceOptions(provider=far),
        }
        Pusher("a-pusher", PusherArgs(**{**given, **more}))

    return deploy(declare)


def told(monitor: Monitor) -> dict[str, str]:
    (container,) = monitor.one(DEPLOYMENT).inputs["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


def test_both_services_understand_what_they_are_told() -> None:
    found = hub_options(told(hub()))
    assert (found.sites, found.push_port, found.pages_port) == (("a", "b"), 8081, 8090)
    site = pusher_options(told(pusher(accounting="http://accounting.a.svc.cluster.local:8080/metrics")))
    assert (site.site, site.atlas_site, site.seconds) == ("a", "A-PROD", 30)
    assert site.hub == "http://portal.hub.svc.cluster.local:8081"
    assert site.squids["squid-1"] == "http://squid-1.a.svc.cluster.local:9301/metrics"
    assert pusher_options(told(pusher())).accounting == ""
    assert site.trust is True


def test_a_site_elsewhere_believes_the_authority_that_the_stack_names_and_no_other(tmp_path: Path) -> None:
    own = Authority.ensure("own", tmp_path / "key.pem", tmp_path / "ca.pem", datetime.now(UTC))
    trust = pusher_options(told(pusher(authority=pem(own.certificate).decode()))).trust
    assert isinstance(trust, ssl.SSLContext)
    assert [each["subject"] for each in trust.get_ca_certs()] == [((("commonName", "own"),),)]
    assert (trust.check_hostname, trust.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_each_resource_has_its_place_and_breaks_no_rule() -> None:
    tree.check(hub(store_mib=2048, outside=True))
    pushing = pusher()
    for resource in pushing.all():
        if not resource.custom and resource.type.startswith("atlas-sites:"):
            assert resource.outputs
        if resource.type.startswith("kubernetes:"):
            assert resource.name.startswith("a-pusher-")


def test_a_sites_token_is_made_once_and_the_hub_holds_a_digest_of_it() -> None:
    monitor = pusher()
    token = monitor.one(SECRET, "a-pusher-token")
    assert token.ignore_changes == ["data"]
    assert token.secrets == ["data"]
    admission = monitor.one(SECRET, "a-pusher-admission")
    assert (admission.inputs["metadata"]["name"], admission.inputs["metadata"]["namespace"]) == ("portal-site-a", "hub")
    for anew in (token, admission):
        assert anew.inputs["metadata"]["annotations"] == {"pulumi.com/patchForce": "true"}
    assert admission.provider.rpartition("::")[0].endswith("::far")
    plain = base64.b64decode(token.inputs["data"]["token"]).decode()
    assert len(plain) >= 43
    assert base64.b64decode(admission.inputs["data"]["digest"]).decode() == digest(plain)
    assert plain not in json.dumps(admission.inputs)
    assert all(part.startswith("data") for part in admission.secrets)
    assert admission.secrets
    other = pusher().one(SECRET, "a-pusher-token")
    assert other.inputs["data"]["token"] != token.inputs["data"]["token"]


def test_the_hub_knows_a_site_by_the_file_that_is_mounted_for_it(tmp_path: Path) -> None:
    volumes = hub().one(DEPLOYMENT).inputs["spec"]["template"]["spec"]["volumes"]
    (sources,) = [each["projected"]["sources"] for each in volumes if "projected" in each]
    for source in sources:
        assert source["secret"]["optional"] is True
        (item,) = source["secret"]["items"]
        assert source["secret"]["name"] == f"portal-site-{item['path']}"
        (tmp_path / item["path"]).write_text(hashlib.sha256(item["path"].encode()).hexdigest())
    gate = Gate(tmp_path)
    assert (gate.site_of("Bearer a"), gate.site_of("Bearer b"), gate.site_of("Bearer c")) == ("a", "b", None)


def test_the_pages_can_be_reached_by_no_address_but_the_pods_own_loopback() -> None:
    monitor = hub()
    spec = monitor.one(SERVICE).inputs["spec"]
    assert {each["name"]: each["port"] for each in spec["ports"]} == {"http": 8080, "push": 8081, "pages": 8090}
    assert "type" not in spec
    (rule,) = monitor.one(POLICY).inputs["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [8081]
    assert monitor.one("atlas-sites:index:Portal").outputs == {
        "metrics": "http://portal.a.svc.cluster.local:8080/metrics",
        "command": "kubectl --namespace a port-forward service/portal 8090",
    }


def test_make_up_prints_the_command_that_the_stack_promises() -> None:
    outputs = hub().one("atlas-sites:index:Portal").outputs
    assert outputs is not None
    assert str(outputs["command"]) in portal_command("a")


def test_only_pushers_push_and_other_clusters_only_where_the_stack_lets_them_in() -> None:
    (rule,) = hub().one(POLICY).inputs["spec"]["ingress"]
    own = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "pusher"}}}
    assert rule["from"] == [own]
    (rule,) = hub(outside=True).one(POLICY).inputs["spec"]["ingress"]
    others = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["a"]}
    assert rule["from"] == [own, {"namespaceSelector": {"matchExpressions": [others]}}]
    assert hub().one(POLICY).inputs["spec"]["egress"] == []


def test_the_hub_has_no_rights_in_its_cluster_and_the_pusher_may_only_look() -> None:
    monitor = hub()
    assert not [each for each in monitor.all() if "rbac" in each.type]
    assert monitor.one(DEPLOYMENT).inputs["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    rules = [(",".join(each["resources"]), ",".join(each["verbs"])) for each in pusher().one(ROLE).inputs["rules"]]
    assert rules == [("pods", "list,watch"), ("events", "list"), ("startdsets", "list,watch")]


def test_what_sites_said_is_on_a_claim_or_goes_with_the_pod() -> None:
    kept = hub(store_mib=2048, storage_class="fast")
    assert kept.one(CLAIM).inputs["spec"]["resources"]["requests"] == {"storage": "2048Mi"}
    assert kept.one(DEPLOYMENT).inputs["spec"]["strategy"] == {"type": "Recreate"}
    scratch = hub()
    assert not scratch.all(CLAIM)
    (container,) = scratch.one(DEPLOYMENT).inputs["spec"]["template"]["spec"]["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == "store"]
    assert told(scratch)["STORE"].startswith(f"{mount['mountPath']}/")
