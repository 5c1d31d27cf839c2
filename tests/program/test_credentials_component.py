"""The credentials of a site, as the engine is told of them: who may do what, and who owns the Secret's contents."""

import re
from typing import Any

import pulumi
import pytest
from pulumi_kubernetes.core import v1 as core

from components.credentials import Credentials, CredentialsArgs, HostCertificate, Reference, Terms, Voms
from services.credentials.main import options
from tests.program.monitor import Monitor, Resource, deploy

pytestmark = pytest.mark.fast

SECRET, CONFIG_MAP = "kubernetes:core/v1:Secret", "kubernetes:core/v1:ConfigMap"
ROLE, BINDING = "kubernetes:rbac.authorization.k8s.io/v1:Role", "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"

BY_REFERENCE: dict[str, Any] = {
    "host_certificate": Reference(namespace="default", name="atlas-cert"),
    "token": Reference(namespace="pool", name="startd-token"),
    "authority": Reference(namespace="pool", name="pool-ca"),
}
WITH_VOMS: dict[str, Any] = {
    **BY_REFERENCE,
    "voms": Voms(
        organisation="atlas",
        attributes=["/atlas/Role=production", "/atlas"],
        trust=Reference(namespace="default", name="voms"),
    ),
}
BY_VALUE: dict[str, Any] = {
    "host_certificate": HostCertificate(certificate="CERTIFICATE", key="KEY"),
    "authority": "AUTHORITY",
}


def arguments(**more: Any) -> CredentialsArgs:
    return CredentialsArgs(
        site="a",
        namespace=pulumi.Output.from_input("a"),
        priority="a-service",
        image="services@sha256:0",
        terms=Terms(proxy=96, refresh=6, alarm=80, critical=72),
        **more,
    )


def declared(**more: Any) -> Monitor:
    return deploy(lambda: Credentials("a-credentials", arguments(**more)))


def container(monitor: Monitor) -> dict[str, Any]:
    (found,) = monitor.one(DEPLOYMENT).inputs["spec"]["template"]["spec"]["containers"]
    return dict(found)


def rules(role: Resource) -> list[tuple[str, str, str]]:
    """Each rule as resource, name and verbs."""
    return [
        (",".join(rule["resources"]), ",".join(rule.get("resourceNames", ["*"])), ",".join(rule["verbs"]))
        for rule in role.inputs["rules"]
    ]


def roles(monitor: Monitor) -> dict[tuple[str, str], list[tuple[str, str, str]]]:
    """The rules of each Role, by namespace and name."""
    return {
        (role.inputs["metadata"]["namespace"], role.inputs["metadata"]["name"]): rules(role)
        for role in monitor.all(ROLE)
    }


def test_the_secret_is_the_refreshers_own_so_that_no_state_ever_holds_it() -> None:
    assert declared(**BY_REFERENCE).all(SECRET) == []


def test_with_voms_the_refresher_may_read_whom_to_trust_and_has_a_directory_in_memory() -> None:
    monitor = declared(**WITH_VOMS)
    assert ("configmaps", "voms", "get") in roles(monitor)["default", "a-credentials"]
    spec = monitor.one(DEPLOYMENT).inputs["spec"]["template"]["spec"]
    assert spec["volumes"] == [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}]
    assert container(monitor)["volumeMounts"] == [{"name": "scratch", "mountPath": "/tmp"}]
    told = {entry["name"]: entry.get("value", "a") for entry in container(monitor)["env"]}
    assert told["VOMS"] == "atlas:/atlas/Role=production,/atlas"


def test_the_refresher_may_read_what_it_is_told_of_and_write_one_secret() -> None:
    assert roles(declared(**BY_REFERENCE)) == {
        ("a", "credentials"): [("secrets", "proxy", "create,get,patch"), ("events", "*", "create")],
        ("default", "a-credentials"): [("secrets", "atlas-cert", "get")],
        ("pool", "a-credentials"): [("secrets", "startd-token", "get"), ("configmaps", "pool-ca", "get")],
    }


def test_what_is_in_the_sites_own_namespace_needs_no_second_role() -> None:
    monitor = declared(host_certificate=Reference(namespace="a", name="mine"))
    assert roles(monitor) == {
        ("a", "credentials"): [
            ("secrets", "proxy", "create,get,patch"),
            ("events", "*", "create"),
            ("secrets", "mine", "get"),
        ]
    }


def test_a_certificate_that_the_stack_holds_stays_secret_on_its_way_into_the_cluster() -> None:
    monitor = declared(**BY_VALUE)
    given = monitor.one(SECRET, "a-credentials-host-certificate")
    assert given.inputs["metadata"]["name"] == "host-certificate"
    assert given.inputs["stringData"] == {"hostcert": "CERTIFICATE", "hostkey": "KEY"}
    assert any(path.startswith("stringData") for path in given.secrets)
    assert monitor.one(CONFIG_MAP).inputs["data"] == {"ca.pem": "AUTHORITY"}
    assert roles(monitor) == {
        ("a", "credentials"): [
            ("secrets", "proxy", "create,get,patch"),
            ("events", "*", "create"),
            ("secrets", "host-certificate", "get"),
            ("configmaps", "pool-ca", "get"),
        ]
    }


def test_without_token_and_authority_the_refresher_is_told_of_none() -> None:
    monitor = declared(host_certificate=Reference(namespace="default", name="atlas-cert"))
    told = {entry["name"] for entry in container(monitor)["env"]}
    hours = {"PROXY_HOURS", "REFRESH_HOURS", "ALARM_HOURS", "CRITICAL_HOURS"}
    assert told == {"NAMESPACE", "SECRET", "HOST_CERTIFICATE"} | hours
    assert monitor.all(CONFIG_MAP) == []


@pytest.mark.parametrize("more", [BY_REFERENCE, BY_VALUE, WITH_VOMS], ids=["by reference", "by value", "with VOMS"])
def test_the_refresher_understands_what_it_is_told_and_may_read_all_of_it(more: dict[str, Any]) -> None:
    monitor = declared(**more)
    environment = {entry["name"]: entry.get("value", "a") for entry in container(monitor)["env"]}
    wanted = options(environment)
    terms = wanted.terms
    hours = [each.total_seconds() / 3600 for each in (terms.life, terms.period, terms.alarm, terms.critical)]
    assert hours == [96, 6, 80, 72]
    readable = {
        (namespace, resource, name)
        for (namespace, _), allowed in roles(monitor).items()
        for resource, name, verbs in allowed
        if "get" in verbs
    }
    for reference in (wanted.secret, wanted.host, wanted.token, wanted.authority, wanted.voms):
        if reference is not None:
            assert (reference.namespace, f"{reference.kind.lower()}s", reference.name) in readable


def test_the_refresher_is_the_only_one_who_may_do_so() -> None:
    for binding in declared(**BY_REFERENCE).all(BINDING):
        assert binding.inputs["subjects"] == [{"kind": "ServiceAccount", "name": "credentials", "namespace": "a"}]
        assert binding.inputs["roleRef"]["name"] == binding.inputs["metadata"]["name"]


def test_who_uses_the_secret_waits_for_a_good_proxy_and_is_told_soon_that_there_is_none() -> None:
    def program() -> None:
        made = Credentials("a-credentials", arguments(**BY_REFERENCE))
        pulumi.export("secret", made.secret)
        pulumi.export("metrics", made.metrics)

    monitor = deploy(program)
    assert monitor.stack.outputs == {
        "secret": "proxy",
        "metrics": "http://credentials.a.svc.cluster.local:8080/metrics",
    }
    assert monitor.one("atlas-sites:index:Credentials").outputs == monitor.stack.outputs
    deployment = monitor.one(DEPLOYMENT)
    assert deployment.timeouts == {"create": "3m", "update": "3m"}
    needed = {resource.urn for resource in monitor.all() if resource.type == BINDING}
    assert needed <= set(deployment.depends_on)
    assert container(monitor)["readinessProbe"]["httpGet"]["path"] == "/readyz"
    service = monitor.one("kubernetes:core/v1:Service")
    assert service.inputs["metadata"]["annotations"]["pulumi.com/skipAwait"] == "true"


def test_what_uses_the_name_of_the_secret_depends_on_the_refresher() -> None:
    def program() -> None:
        made = Credentials("a-credentials", arguments(**BY_REFERENCE))
        core.ConfigMap("user-of-it", metadata={"name": "user"}, data={"secret": made.secret})

    monitor = deploy(program)
    assert monitor.one(DEPLOYMENT).urn in monitor.one(CONFIG_MAP, "user-of-it").depends_on


def test_the_pod_has_no_more_rights_than_it_needs() -> None:
    spec = declared(**BY_REFERENCE).one(DEPLOYMENT).inputs["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    (only,) = spec["containers"]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumes" not in spec, "the host's key is read from the API server, never mounted"


def test_a_new_refresher_that_finds_no_good_proxy_does_not_end_the_old_one() -> None:
    strategy = declared(**BY_REFERENCE).one(DEPLOYMENT).inputs["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_all_that_is_declared_hangs_below_the_component_and_is_named_after_it() -> None:
    def program() -> None:
        Credentials("a-credentials", arguments(**BY_REFERENCE))
        Credentials("b-credentials", arguments(**BY_VALUE))

    monitor = deploy(program)
    for name in ("a-credentials", "b-credentials"):
        component = monitor.one("atlas-sites:index:Credentials", name)
        children = monitor.children(component)
        assert len(children) >= 6
        assert all(re.match(rf"{name}-", child.name) for child in children)
    assert len(monitor.children(monitor.stack)) == 2
