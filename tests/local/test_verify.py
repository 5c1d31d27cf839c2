"""What is looked at on a real cloud."""

from typing import Any

import pytest

from local.verify import probe, shortcomings

pytestmark = pytest.mark.fast

POOL: dict[str, Any] = {
    "name": "jobs1",
    "selector": {"atlas-sites.io/pool": "jobs1"},
    "taints": [{"key": "atlas-sites.io/jobs", "value": "only", "effect": "NoSchedule"}],
    "cores": 7.3,
    "memoryMib": 30000,
    "diskMib": 200000,
    "pods": 30,
}
NODE: dict[str, Any] = {
    "metadata": {"labels": {"atlas-sites.io/pool": "jobs1"}},
    "spec": {"taints": POOL["taints"]},
    "status": {
        "allocatable": {"cpu": "7820m", "memory": "31000000Ki", "ephemeral-storage": "288000000000", "pods": "30"}
    },
}
STARTDS: dict[str, Any] = {
    "spec": {
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "startd"}},
            "spec": {
                "affinity": {"nodeAffinity": {}},
                "tolerations": [{"key": "atlas-sites.io/jobs"}],
                "volumes": [{"name": "scratch"}],
                "containers": [{"name": "startd", "image": "x", "env": [], "resources": {"requests": {"cpu": "7"}}}],
            },
        }
    }
}


def test_a_node_that_is_as_promised_falls_short_of_nothing() -> None:
    assert list(shortcomings(NODE, POOL)) == []


def test_a_node_on_a_network_disk_without_its_label_or_taint_is_told() -> None:
    small = {**NODE["status"]["allocatable"], "ephemeral-storage": "120Gi"}
    node = {"metadata": {"labels": {}}, "spec": {}, "status": {"allocatable": small}}
    assert list(shortcomings(node, POOL)) == [
        "200000 MiB of local disk were promised of a node; it has 122880.0.",
        "the label atlas-sites.io/pool should be jobs1; it is None.",
        "it does not bear the taint atlas-sites.io/jobs=only:NoSchedule.",
    ]


def test_a_probe_asks_for_what_a_startd_asks_for_and_goes_where_it_goes() -> None:
    spec = probe(STARTDS, POOL, ["true"])["spec"]
    (container,) = spec["containers"]
    assert container["resources"] == {"requests": {"cpu": "7"}}
    assert spec["affinity"] == {"nodeAffinity": {}}
    assert spec["tolerations"] == [{"key": "atlas-sites.io/jobs"}]
    assert spec["nodeSelector"] == POOL["selector"]
    assert "volumes" not in spec
