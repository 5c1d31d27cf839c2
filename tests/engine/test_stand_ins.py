"""The stand-ins for the clouds, asked by the real engine."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clouds import checks, schema
from tests.clouds.provider import Cloud, served
from tests.engine.projects import Project
from tests.engine.stacks import planned

pytestmark = pytest.mark.engine

POOLS = """\
import pulumi
import pulumi_aws as aws
import pulumi_azure_native as azure
import pulumi_gcp as gcp

given = pulumi.Config().require_object("given")
azure_opts = pulumi.ResourceOptions(provider=azure.Provider("azure"))
gcp_opts = pulumi.ResourceOptions(provider=gcp.Provider("gcp", project="site-1"))
aws_opts = pulumi.ResourceOptions(provider=aws.Provider("aws", region="eu-central-1", allowed_account_ids=["1"]))


class Made(pulumi.CustomResource):
    pass  # without the SDK's own class, which refuses some mistakes itself


Made("azure-native:containerservice:AgentPool", "aks", {
    "agentPoolName": "jobs1", "resourceGroupName": "site", "resourceName": "site", "vmSize": "Standard_D8ds_v5",
    "osDiskType": "Ephemeral", "count": 1, **given.get("aks", {}),
}, azure_opts)
Made("gcp:container/nodePool:NodePool", "gke", {
    "name": "jobs1", "cluster": "site", "nodeConfig": {"machineType": "n2-standard-8", **given.get("gke", {})},
}, gcp_opts)
eks = aws.eks.Cluster(
    "eks", name="site", role_arn="arn:aws:iam::1:role/site", vpc_config={"subnet_ids": ["a", "b"]}, opts=aws_opts
)
for key in ("role", "certificate", "address"):
    pulumi.export(key, {
        "role": eks.role_arn, "certificate": eks.certificate_authority.data, "address": eks.endpoint,
    }[key])
"""


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Cloud]]:
    standins = {package: Cloud(package) for package in schema.SDKS}
    with served(standins) as places:
        monkeypatch.setenv("PULUMI_DEBUG_PROVIDERS", places)
        yield standins


@pytest.fixture
def pools(project: Project, clouds: dict[str, Cloud]) -> Project:
    """A project with a pool of AKS, one of GKE, and a cluster of EKS."""
    return project


def given(pools: Project, **changes: Any) -> Project:
    pools.write(POOLS, {"probe:given": changes})
    return pools


def test_what_the_sdks_allow_is_made_and_the_clouds_give_the_rest(pools: Project) -> None:
    preview = given(pools).succeeds("preview")
    assert "warning" not in preview
    assert "certificate: [unknown]" in preview
    pools.succeeds("up", "--yes", "--skip-preview")
    told = json.loads(pools.succeeds("stack", "output", "--json"))
    assert told == {"role": "arn:aws:iam::1:role/site", "certificate": checks.CERTIFICATE, "address": "203.0.113.10"}
    assert planned(pools) == {}
    pools.succeeds("preview", "--refresh", "--expect-no-changes")
    pools.succeeds("destroy", "--yes", "--skip-preview")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"aks": {"osDiskTyp": "Ephemeral"}}, "osDiskTyp is not a property; there are agentPoolName,"),
        (
            {"gke": {"ephemeralStorageLocalSsdConfig": {}}},
            "nodeConfig.ephemeralStorageLocalSsdConfig.localSsdCount is missing.",
        ),
    ],
)
def test_what_an_sdk_says_cannot_be_is_refused_with_a_sentence(
    pools: Project, change: dict[str, Any], words: str
) -> None:
    status, output = given(pools, **change).pulumi("preview")
    assert status != 0
    assert words in output


def test_a_pool_grows_in_place_and_one_of_another_size_is_a_new_one(pools: Project) -> None:
    given(pools).succeeds("up", "--yes", "--skip-preview")
    given(pools, aks={"count": 2})
    assert planned(pools) == {"aks": "update"}
    given(pools, aks={"vmSize": "Standard_D16ds_v5"}, gke={"ephemeralStorageLocalSsdConfig": {"localSsdCount": 2}})
    assert planned(pools) == {"aks": "replace", "gke": "replace"}


def test_what_a_stand_in_is_told_to_refuse_fails_and_the_rest_is_made(pools: Project, clouds: dict[str, Cloud]) -> None:
    clouds["azure-native"].refused = ("aks",)
    status, output = given(pools).pulumi("up", "--yes", "--skip-preview", "--continue-on-error")
    assert status != 0
    assert "the stand-in was told to refuse this" in output
    assert clouds["gcp"].asked == ["create gke"]
    assert clouds["aws"].asked == ["create eks"]
