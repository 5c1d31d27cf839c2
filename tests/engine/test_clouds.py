"""This checkout's program on each cloud, by the real engine: what changes in place, and what may not change at all.

The clouds and their clusters are stand-ins; docs/real-cloud.md says what they cannot know.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.clouds.provider import Cloud, StandIn
from tests.engine.stacks import Stack, cloud_site, name_of, planned

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("kind", ["azure", "gcp", "aws"])]

PACKAGES = {"azure": "azure-native", "gcp": "gcp", "aws": "aws"}
POOL_TYPES = {
    "azure": "azure-native:containerservice:AgentPool",
    "gcp": "gcp:container/nodePool:NodePool",
    "aws": "aws:eks/nodeGroup:NodeGroup",
}
CLUSTER_TYPES = {
    "azure": "azure-native:containerservice:ManagedCluster",
    "gcp": "gcp:container/cluster:Cluster",
    "aws": "aws:eks/cluster:Cluster",
}
LARGER: Mapping[str, Mapping[str, Any]] = {
    "azure": {"size": "Standard_D16ds_v5"},
    "gcp": {"localSsds": 2},
    "aws": {"size": "m6id.4xlarge"},
}
SLOWER: Mapping[str, Mapping[str, Any]] = {"azure": {"outbound": {"idleMinutes": 60}}, "gcp": {"natIdleSeconds": 2400}}


def refused(stack: Stack) -> str:
    """What is said of a preview that fails."""
    status, output = stack.preview()
    assert status != 0, output
    return output


def test_a_new_site_is_previewed_and_passes_the_policies(world: Stack, kind: str) -> None:
    status, output = world.of([cloud_site(kind)]).preview()
    assert status == 0, output
    assert "atlas-sites@" in output
    assert "mandatory" not in output
    undecided = [line for line in output.splitlines() if "during preview" in line]
    # The name of an Auto Scaling group is AWS's own, and an argument of the autoscaler.
    assert all(kind == "aws" and "containers.0.args." in line for line in undecided), "a policy could not decide"
    assert "warning" not in output


def test_pools_and_the_cluster_change_in_place_or_not_at_all(
    world: Stack, standins: dict[str, StandIn], kind: str
) -> None:
    world.of([cloud_site(kind)]).up()
    (cluster,) = world.names(CLUSTER_TYPES[kind])
    (pool,) = (name for name in world.names(POOL_TYPES[kind]) if "jobs1" in name)
    assert planned(world.project) == {}, "a second look finds nothing to do"

    grown = planned(world.of([cloud_site(kind, {"max": 20})]).project)
    # On EKS the bounds of a pool are the autoscaler's, and not the pool's.
    assert grown["tide-cluster-autoscaler-workload" if kind == "aws" else pool] == "update"
    assert (pool in grown) == (kind != "aws")
    assert set(grown.values()) == {"update"}
    assert cluster not in grown

    upgraded = planned(world.of([cloud_site(kind, kubernetesVersion="1.34")]).project)
    assert upgraded[cluster] == "update"
    assert set(upgraded.values()) == {"update"}

    if kind in SLOWER:
        assert set(planned(world.of([cloud_site(kind, **SLOWER[kind])]).project).values()) == {"update"}

    added = planned(world.of([cloud_site(kind, {}, {"name": "more"})]).project)
    assert [name for name, what in added.items() if what == "create" and "more1" in name]
    assert {"delete", "replace"}.isdisjoint(added.values())

    world.of([cloud_site(kind, name="ebb") | {"formerNames": ["tide"]}])
    assert planned(world.project) == {}, "a renamed site stays what it is"

    for package in PACKAGES.values():
        standin = standins[package]
        assert isinstance(standin, Cloud)
        standin.credential = "second"
    renewed = planned(world.of([cloud_site(kind)]).project)
    assert set(renewed) <= {"tide-cluster-kubernetes"}
    assert set(renewed.values()) <= {"update"}

    assert "protect" in refused(world.of([cloud_site(kind, LARGER[kind])]))
    assert "protect" in refused(world.of([cloud_site(kind, {"name": "other"})]))
    assert "protect" in refused(world.of([cloud_site(kind) | {"name": "another"}]))


def test_a_pool_of_another_size_comes_first_and_the_old_one_goes_later(world: Stack, kind: str) -> None:
    world.of([cloud_site(kind)]).up()
    before = world.names()
    old = {name for name in world.names() if "jobs1" in name}
    new = {"generation": 2, **LARGER[kind]}

    world.of([cloud_site(kind, {"retiring": True}, new)])
    first = planned(world.project)
    created = {name for name, what in first.items() if what == "create"}
    assert created == {name.replace("jobs1", "jobs2") for name in old}
    assert {"delete", "replace"}.isdisjoint(first.values())
    world.up()

    # No more protected, it is not replaced either: that would end its payloads.
    anew = planned(world.of([cloud_site(kind, {"retiring": True, **LARGER[kind]}, new)]).project)
    assert {"delete", "replace", "create"}.isdisjoint(anew.values())

    world.of([cloud_site(kind, new)])
    second = planned(world.project)
    assert {name for name, what in second.items() if what == "delete"} == old
    assert {"create", "replace"}.isdisjoint(second.values())
    world.up()
    assert world.names() == (before - old) | created


def test_a_cluster_whose_state_was_lost_is_taken_over_as_it_is(
    world: Stack, standins: dict[str, StandIn], kind: str, tmp_path: Path
) -> None:
    """As docs/runbooks/adopt.md says: the cloud's resources are imported, the cluster's objects applied."""
    world.of([cloud_site(kind)]).up()
    names, cloud = world.names(), standins[PACKAGES[kind]]
    identities = {(each["type"], name_of(each["urn"])): each.get("id") for each in world.state()}
    inside = {name for token, name in identities if token.startswith(("kubernetes:", "pulumi:providers:kubernetes"))}
    world.project.succeeds("stack", "rm", "--yes", "--force", "--preserve-config", "dev")
    world.project.engine.prepare("dev")
    asked = list(cloud.asked)

    file = tmp_path / "import.json"
    world.project.succeeds("preview", "--import-file", str(file))
    listed = json.loads(file.read_text())
    listed["resources"] = [each for each in listed["resources"] if not each["type"].startswith("kubernetes:")]
    for each in listed["resources"]:
        if not each.get("component"):
            assert each["id"] == "<PLACEHOLDER>"
            each["id"] = identities[each["type"], each.get("logicalName", each["name"])]
    file.write_text(json.dumps(listed))
    world.project.succeeds("import", "--file", str(file), "--generate-code=false", "--protect=false", "--yes")
    assert cloud.asked == asked, "an import changes nothing"

    plan = planned(world.project)
    assert {name for name, what in plan.items() if what == "create"} == inside
    assert set(plan.values()) <= {"create", "update"}
    world.up()
    assert world.names() == names
    assert [what for what in cloud.asked[len(asked) :] if not what.startswith("update ")] == []
    assert planned(world.project) == {}
