"""A site's own InfluxDB, as the engine is told of it: who knows its passwords, who may ask it, where it keeps what."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from components import database
from components.accounting import NAME as ACCOUNTING
from components.database import Place
from components.timeseries import CONFIGURATION, DATABASE, DIRECTORY, PORT, Timeseries
from tests.program import tree
from tests.program.monitor import Monitor, Resource, deploy

pytestmark = pytest.mark.fast

IMAGE = Path(__file__).parents[2] / "images" / "timeseries"
DEPLOYMENT, SECRET = "kubernetes:apps/v1:Deployment", "kubernetes:core/v1:Secret"
CLAIM, SERVICE = "kubernetes:core/v1:PersistentVolumeClaim", "kubernetes:core/v1:Service"
POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"


def declared(**more: Any) -> Monitor:
    given: dict[str, Any] = {
        "site": "a",
        "namespace": "a",
        "priority": "a-service",
        "image": f"registry.example.org/atlas/timeseries@sha256:{'0' * 64}",
        "mib": 2048,
        "claim": True,
    }
    return deploy(lambda: Timeseries("a-timeseries", Place(**{**given, **more})))


def template(monitor: Monitor) -> dict[str, Any]:
    return dict(monitor.one(DEPLOYMENT).inputs["spec"]["template"])


def plain(secret: Resource, key: str) -> str:
    return base64.b64decode(secret.inputs["data"][key]).decode()


def test_each_resource_has_its_place_and_breaks_no_rule() -> None:
    tree.check(declared(readers="monitoring"))
    tree.check(declared(claim=False))


def test_who_writes_and_who_reads_have_passwords_that_are_made_once_and_shown_nowhere() -> None:
    monitor = declared()
    writer, reader = (monitor.one(SECRET, f"a-timeseries-{what}") for what in ("writer", "reader"))
    assert (plain(writer, "username"), plain(reader, "username")) == ("accounting", "reader")
    assert len({plain(each, "password") for each in (writer, reader)}) == 2
    others = json.dumps([each.inputs for each in monitor.all() if each.type != SECRET])
    for each in (writer, reader):
        assert len(plain(each, "password")) >= 43
        assert re.fullmatch(r"[\w-]+", plain(each, "password")), "it stands between quotes of a statement"
        assert each.ignore_changes == ["data"]
        assert each.inputs["metadata"]["annotations"] == {"pulumi.com/patchForce": "true"}
        assert plain(each, "password") not in others
        assert each.inputs["data"]["password"] not in others


def test_other_passwords_are_another_pods_for_they_are_read_at_the_start() -> None:
    one, other = (template(declared())["metadata"]["annotations"] for _ in range(2))
    assert one.keys() == other.keys() == {database.PASSWORDS}
    assert one != other


def test_before_the_server_can_be_reached_it_is_told_of_its_users() -> None:
    monitor = declared()
    spec = template(monitor)["spec"]
    (preparation,) = spec["initContainers"]
    script, name, secrets = preparation["args"]
    assert (name, Path(script).name) == (DATABASE, "prepare")
    mounts = {each["name"]: each["mountPath"] for each in preparation["volumeMounts"]}
    assert mounts == {"store": DIRECTORY, "writer": f"{secrets}/writer", "reader": f"{secrets}/reader"}
    said = (IMAGE / "prepare").read_text()
    assert all(f"$2/{what}" in said for what in ("writer", "reader"))
    (server,) = spec["containers"]
    assert server["args"][-1] == CONFIGURATION
    configuration = (IMAGE / "influxdb.conf").read_text()
    assert "auth-enabled = true" in configuration
    assert f'bind-address = ":{PORT}"' in configuration
    assert set(re.findall(r'"(/[^"]+)/\w+"', configuration)) == {DIRECTORY}
    assert monitor.one(SERVICE).inputs["spec"]["ports"] == [{"name": "api", "port": PORT}]


def test_only_the_accounting_and_a_named_namespace_may_ask_and_it_calls_nobody() -> None:
    spec = declared().one(POLICY).inputs["spec"]
    own = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": ACCOUNTING}}}
    assert spec["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "influxdb"}}
    assert spec["ingress"] == [{"from": [own], "ports": [{"protocol": "TCP", "port": PORT}]}]
    assert spec["egress"] == []
    (rule,) = declared(readers="monitoring").one(POLICY).inputs["spec"]["ingress"]
    others = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert rule["from"] == [own, others]


def test_it_has_no_rights_in_the_cluster() -> None:
    monitor = declared()
    assert not [each for each in monitor.all() if "rbac" in each.type]
    assert template(monitor)["spec"]["automountServiceAccountToken"] is False


def test_what_it_holds_is_on_a_claim_or_goes_with_the_pod() -> None:
    kept = declared(storage_class="fast")
    assert kept.one(CLAIM).inputs["spec"]["resources"]["requests"] == {"storage": "2048Mi"}
    assert kept.one(CLAIM).inputs["spec"]["storageClassName"] == "fast"
    assert template(kept)["spec"]["volumes"][0]["persistentVolumeClaim"] == {
        "claimName": kept.one(CLAIM).inputs["metadata"]["name"]
    }
    assert kept.one(DEPLOYMENT).inputs["spec"]["strategy"] == {"type": "Recreate"}
    scratch = declared(claim=False)
    assert not scratch.all(CLAIM)
    assert template(scratch)["spec"]["volumes"][0]["emptyDir"] == {"sizeLimit": "2048Mi"}


def test_others_are_told_where_it_is_and_whose_password_reads() -> None:
    assert declared().one("atlas-sites:index:Timeseries").outputs == {
        "url": "http://influxdb.a.svc.cluster.local:8086",
        "database": "atlas",
        "reader": "influxdb-reader",
    }
