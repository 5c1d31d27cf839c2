"""What the SDKs of the clouds say can be, and what the table of replacements names."""

import json
from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

from tests.clouds import checks, schema
from tests.clouds.provider import TABLE

pytestmark = pytest.mark.fast

AKS: dict[str, Any] = {"resourceGroupName": "site", "resourceName": "site", "osDiskType": "Ephemeral", "count": 1}
GKE: dict[str, Any] = {"cluster": "site", "nodeConfig": {"machineType": "n2-standard-8"}}


def told(token: str, inputs: dict[str, Any]) -> list[str]:
    return [sentence for _, sentence in checks.mistakes(inputs, schema.resource(token))]


def test_what_the_sdks_allow_is_right() -> None:
    assert told("azure-native:containerservice:AgentPool", AKS) == []
    assert told("gcp:container/nodePool:NodePool", GKE) == []


def test_what_is_not_known_yet_may_be_anything() -> None:
    assert told("azure-native:containerservice:AgentPool", AKS | {"count": UNKNOWN}) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"osDiskTyp": "Ephemeral"}, "osDiskTyp is not a property; there are agentPoolName,"),
        ({"provisioningState": "Succeeded"}, "provisioningState is not an input: only the cloud gives it."),
        ({"resourceGroupName": None}, "resourceGroupName is missing."),
        ({"osDiskType": "Local"}, "osDiskType is 'Local'; allowed: one of Managed, Ephemeral."),
        ({"count": "3"}, "count is '3'; allowed: a whole number."),
        ({"count": 1.5}, "count is 1.5; allowed: a whole number."),
        ({"enableAutoScaling": 1.0}, "enableAutoScaling is 1.0; allowed: true or false."),
        ({"spotMaxPrice": True}, "spotMaxPrice is True; allowed: a number."),
        ({"nodeTaints": "a=b:NoSchedule"}, "nodeTaints is 'a=b:NoSchedule'; allowed: a list."),
        ({"nodeLabels": {"a": True}}, "nodeLabels.a is True; allowed: a string."),
        ({"upgradeSettings": {"maxSurge": 1}}, "upgradeSettings.maxSurge is 1; allowed: a string."),
    ],
)
def test_a_mistake_is_one_sentence(change: dict[str, Any], words: str) -> None:
    (sentence,) = told("azure-native:containerservice:AgentPool", AKS | change)
    assert sentence.startswith(words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ephemeralStorageLocalSsdConfig": {}}, "nodeConfig.ephemeralStorageLocalSsdConfig.localSsdCount is missing."),
        ({"taints": [{"key": "a", "efect": "X"}]}, "nodeConfig.taints[0].effect is missing."),
        ({"machineType": ["n2"]}, "nodeConfig.machineType is a list; allowed: a string."),
    ],
)
def test_a_mistake_within_is_told_with_its_path(change: dict[str, Any], words: str) -> None:
    assert words in told("gcp:container/nodePool:NodePool", GKE | {"nodeConfig": change})


def test_what_the_cloud_gives_is_known_once_it_is_there() -> None:
    cluster = schema.resource("gcp:container/cluster:Cluster")
    given = {"name": "site", "masterAuth": {"clientCertificateConfig": {"issueClientCertificate": False}}}
    before, after = (checks.made(given, cluster, "site", known=known) for known in (False, True))
    assert before["endpoint"] == UNKNOWN
    assert after["endpoint"] == "203.0.113.10"
    assert before["name"] == after["name"] == "site"


def test_changes_are_told_by_their_innermost_property() -> None:
    old = {"a": 1, "b": {"c": [1, 2], "d": "x"}, "e": {"f": 1}}
    new = {"a": 1, "b": {"c": [1, 3, 4], "d": "x"}}
    assert list(checks.changes(old, new)) == [("b.c[1]", 2, 3), ("b.c[2]", None, 4), ("e.f", 1, None)]
    assert list(checks.changes(old, old)) == []


@pytest.mark.parametrize("token", json.loads(TABLE.read_text())["types"])
def test_each_row_of_the_table_of_replacements_is_of_properties_that_there_are_and_has_its_source(token: str) -> None:
    row = json.loads(TABLE.read_text())["types"][token]
    assert row["source"]
    assert row["date"]
    for path in row["properties"]:
        keys = schema.resource(token).inputs
        for part in path.split("."):
            assert part in keys, f"{token} has no {path}"
            inner = keys[part].items or keys[part]
            keys = schema.block(inner.block) if inner.block else {}


def test_a_type_that_no_sdk_has_is_told() -> None:
    for token in ("gcp:container/nodePol:NodePol", "aws:container/nodePool:NodePool", "oci:core/vcn:Vcn"):
        with pytest.raises(schema.NoSuchTypeError, match=f"^{token} is not in the SDK"):
            schema.resource(token)
