"""Many sites in one stack: none waits for another, and what becomes of one changes nothing of the others."""

import base64
import hashlib
import json
import socket
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from components import naming
from tests.clouds.provider import Cloud, StandIn
from tests.engine.stacks import Sites, Stack, cloud_site, name_of, planned

pytestmark = pytest.mark.engine


@pytest.fixture
def nobody() -> int:
    """A port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def of(site: str, names: Iterable[str]) -> set[str]:
    """Those of the names that are of that site."""
    return {name for name in names if name == site or name.startswith(f"{site}-")}


def test_sites_that_fail_do_not_stop_the_others(
    world: Stack, site: Sites, standins: dict[str, StandIn], nobody: int
) -> None:
    world.of([site("sound")]).up()
    whole = world.names()
    standins["kubernetes"].refused = ("refused-squid",)
    world.of(
        [
            site("unread", kubeconfig="/nowhere/config"),
            site("refused"),
            site("away", port=nobody),
            site("sound"),
            site("well"),
        ]
    )
    status, output = world.project.pulumi("up", "--yes", "--skip-preview", "--continue-on-error")
    assert status != 0
    made = world.names()
    assert of("sound", made) == whole
    assert of("well", made) == {name.replace("sound", "well") for name in whole}
    assert "refused-startds-set" not in made
    assert {"refused-cvmfs-mounter", "refused-credentials-refresher"} <= made, "what needs nothing that failed is made"
    assert of("unread", made) == {"unread-cluster-kubernetes"}
    assert of("away", made) == {"away-cluster-kubernetes"}
    assert "site unread: /nowhere/config does not exist: name the cluster's kubeconfig file." in output
    assert f'Get "https://127.0.0.1:{nobody}/' in output


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("azure", ("group", "subnet", "identity", "aks", "jobs1")),
        ("gcp", ("network", "account", "gke", "pool-jobs1")),
        ("aws", ("network", "subnet-nodes", "role-nodes", "eks", "pool-jobs1")),
    ],
)
def test_a_cluster_that_cannot_be_made_stops_no_other_site(
    world: Stack, site: Sites, standins: dict[str, StandIn], kind: str, parts: Sequence[str]
) -> None:
    failing = {f"without-{part}": f"without-{part}-cluster-{part}" for part in parts}
    for standin in standins.values():
        standin.refused = tuple(failing.values())
    world.of([*(cloud_site(kind, name=name) for name in failing), cloud_site(kind, name="well"), site("hall")])
    status, output = world.deploy("up", "--stack", "dev", "--yes")
    assert status != 0
    table = {line.split()[0]: line for line in output[output.index("\nSITE") :].splitlines() if line}
    for name, resource in failing.items():
        assert table[name].endswith(f"failed: {resource}: the stand-in was told to refuse this")
    assert (table["well"][-5:], table["hall"][-5:]) == ("ready", "ready")
    made = world.names()
    assert "well-startds-set" in made
    assert "hall-startds-set" in made
    # What was to be in a cluster that is not there is left out, and so neither tried nor told as a failure.
    inside = [name for name in made if name.startswith("without-") and "-cluster-" not in name]
    assert inside == []


def test_a_cluster_whose_kubeconfig_is_withheld_stops_no_other_site(
    world: Stack, site: Sites, standins: dict[str, StandIn]
) -> None:
    azure = standins["azure-native"]
    assert isinstance(azure, Cloud)
    azure.withheld = (naming.azure("shy"),)
    world.of([cloud_site("azure", name="shy"), cloud_site("azure", name="well"), site("hall")])
    status, output = world.deploy("up", "--stack", "dev", "--yes")
    assert status != 0
    assert "site shy: AKS does not give the cluster's kubeconfig: " in output
    assert "the stand-in was told to withhold it" in output
    table = {line.split()[0]: line for line in output[output.index("\nSITE") :].splitlines() if line}
    assert "failed" in table["shy"]
    assert (table["well"][-5:], table["hall"][-5:]) == ("ready", "ready")
    assert "shy-cluster-aks" in world.names()
    azure.withheld = ()
    status, output = world.deploy("up", "--stack", "dev", "--yes")
    assert status == 0, output
    assert {name.replace("shy", "well") for name in of("shy", world.names())} == of("well", world.names())


def test_a_site_that_is_away_for_once_loses_nothing(world: Stack, site: Sites, nobody: int) -> None:
    world.of([site("hall"), site("loft")]).up()
    before = world.names()
    world.of([site("hall", port=nobody), site("loft", kubeconfig="/nowhere/config")])
    world.project.pulumi("up", "--yes", "--skip-preview", "--continue-on-error")
    assert world.names() == before
    world.of([site("hall"), site("loft")]).up()
    assert world.names() == before
    assert planned(world.project) == {}


def test_a_renewed_credential_touches_no_object(world: Stack, site: Sites) -> None:
    world.of([site("hall")]).up()
    world.of([site("hall", credential="second")])
    assert planned(world.project) == {"hall-cluster-kubernetes": "update"}


def test_a_cluster_that_moved_is_the_same_cluster(world: Stack, site: Sites) -> None:
    world.of([site("hall")]).up()
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        world.of([site("hall", port=elsewhere.getsockname()[1])])
        assert planned(world.project) == {"hall-cluster-kubernetes": "update"}


def test_a_site_is_renamed_without_a_change_of_its_objects(world: Stack, site: Sites) -> None:
    world.of([site("cellar"), site("hall")]).up()
    former = site("cellar")["kubeconfig"]
    renamed = site("vault", formerNames=["cellar"]) | {"kubeconfig": former, "atlasSite": "cellar"}
    world.of([renamed, site("hall")])
    assert planned(world.project) == {}
    world.up()
    assert of("cellar", world.names()) == set()
    assert planned(world.project) == {}
    again = renamed | {"name": "crypt", "formerNames": ["cellar", "vault"]}
    world.of([again, site("hall")])
    assert planned(world.project) == {}


def test_the_order_of_sites_means_nothing_and_no_site_knows_of_another(world: Stack, site: Sites) -> None:
    world.of([site("hall"), site("loft")]).up()
    one = len(world.names()) // 2
    world.of([site("loft"), site("hall")])
    assert planned(world.project) == {}
    world.of([site("loft"), site("attic"), site("hall")])
    added = planned(world.project)
    assert of("attic", added) == set(added)
    assert list(added.values()) == ["create"] * one
    world.of([site("hall")])
    removed = planned(world.project)
    assert of("loft", removed) == set(removed)
    assert list(removed.values()) == ["delete"] * one


def test_each_site_of_a_portal_has_a_token_of_its_own_and_no_cluster_has_anothers_credential(
    world: Stack, site: Sites
) -> None:
    portal = {"hub": "hall", "address": "https://portal.example.org"}
    hall, loft = site("hall", credential="key-of-hall"), site("loft", credential="key-of-loft")
    tide = cloud_site("azure", name="tide")
    world.of([hall, loft, tide], portal).up()
    names, there = world.names(), held(world)
    tokens = {name: there[name][f"{name}-pusher-token"]["data"]["token"] for name in ("hall", "loft", "tide")}
    for name, token in tokens.items():
        digest = hashlib.sha256(base64.b64decode(token)).hexdigest()
        known = there["hall"][f"{name}-pusher-admission"]["data"]["digest"]
        assert base64.b64decode(known).decode() == digest
        for cluster, objects in there.items():
            everything = json.dumps(objects)
            assert (token in everything) is (cluster == name)
            assert base64.b64decode(token).decode() not in everything
            assert "key-of-" not in everything
            assert (f"{name}-pusher-admission" in objects) is (cluster == "hall")
    world.up()
    assert (planned(world.project), world.names(), held(world)) == ({}, names, there)
    world.of([hall, tide], portal)
    plan = planned(world.project)
    assert {name: step for name, step in plan.items() if step != "delete"} == {"hall-portal-service": "update"}
    assert of("loft", plan) == of("loft", names)
    assert plan["loft-pusher-admission"] == "delete"
    world.up()
    there.pop("loft")
    del there["hall"]["loft-pusher-admission"]
    now = held(world)
    assert {name: set(objects) for name, objects in now.items()} == {name: set(there[name]) for name in there}
    for name in there:
        assert now[name][f"{name}-pusher-token"] == there[name][f"{name}-pusher-token"]


def held(world: Stack) -> dict[str, dict[str, Any]]:
    """What the state has of each site's cluster, by the name of the resource; secrets in clear."""
    found: dict[str, dict[str, Any]] = {}
    for resource in world.state("--show-secrets"):
        provider = resource.get("provider", "").split("::")[-2:][0]
        if provider.endswith("-cluster-kubernetes"):
            objects = found.setdefault(provider.removesuffix("-cluster-kubernetes"), {})
            objects[name_of(resource["urn"])] = in_clear(resource["inputs"])
    return found


def in_clear(value: Any) -> Any:
    """A value of a state that was exported with secrets shown."""
    if isinstance(value, list):
        return [in_clear(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "plaintext" in value:
        return in_clear(json.loads(value["plaintext"]))
    return {key: in_clear(each) for key, each in value.items()}


def test_the_policies_pass_a_world(world: Stack, site: Sites) -> None:
    status, output = world.of([site("hall"), site("loft")]).preview()
    assert status == 0, output
    assert "✅ atlas-sites@" in output
