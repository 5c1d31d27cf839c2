"""A cluster of GKE: what is declared, what is told of its nodes, and what is refused before Google is asked."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import naming
from components.cluster import gcp_nodes
from components.cluster.gcp import GoogleCluster, GoogleClusterArgs, GoogleJobPool, recurring
from components.cluster.gcp_kubeconfig import kubeconfig
from components.cluster.gcp_pools import NODES_ANEW
from components.cluster.machines import machines
from components.cluster.plan import Maintenance, SystemPool
from components.cluster.pools import LABEL
from components.namespaces import Namespaces, NamespacesArgs
from settings.images import images_of
from settings.sites import sites_of
from settings.workload import KEEPALIVE_MAX_SECONDS
from tests.program import tree
from tests.program.monitor import Monitor, Resource, deploy

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
CLUSTER, POOL = "gcp:container/cluster:Cluster", "gcp:container/nodePool:NodePool"
NAT = "gcp:compute/routerNat:RouterNat"
MADE: dict[str, dict[str, Any]] = {
    CLUSTER: {"endpoint": "192.0.2.1", "masterAuth": {"clusterCaCertificate": "Q0E="}},
    "gcp:serviceaccount/account:Account": {"email": "nodes@example.org", "member": "serviceAccount:nodes@example.org"},
}
TAINT = {"key": "atlas-sites.io/jobs", "value": "only", "effect": "NO_SCHEDULE"}


def pool(**change: Any) -> GoogleJobPool:
    own: dict[str, Any] = {
        "name": "jobs", "generation": 1, "size": "c3d-standard-16-lssd", "least": 0, "most": 10, "spot": False,
        "retiring": False, "price_per_hour": None, "local_ssds": None,
    }  # fmt: skip
    return GoogleJobPool(**{**own, **change})


def declared(*pools: GoogleJobPool, preview: bool = False, drain: int = 86520, site: bool = False) -> Monitor:
    args = GoogleClusterArgs(
        site="hill", region="europe-west4", kubernetes_version="1.34", network="10.224.0.0/16",
        authorized_networks=("192.0.2.0/24",), maintenance=Maintenance(day="Tuesday", start_hour_utc=6, hours=12),
        system_pool=SystemPool(size="e2-standard-4", nodes=3), drain_seconds=drain, project="a-project",
        zone="europe-west4-b", nat_idle_seconds=1200, job_pools=pools or (pool(),),
    )  # fmt: skip

    def program() -> None:
        cluster = GoogleCluster("hill-cluster", args)
        assert cluster.region == "europe-west4"
        assert cluster.pools is not None
        assert [each.name for each in cluster.pools] == [each.full_name for each in args.job_pools]
        if site:
            given = NamespacesArgs(site="hill", quota={"pods": "10"}, collector="pool.example.org:9618")
            Namespaces("hill-namespaces", given, cluster.on_it(cluster))

    return deploy(program, preview=preview, made=MADE)


def pool_named(monitor: Monitor, name: str) -> Resource:
    return monitor.one(POOL, f"hill-cluster-pool-{name}")


def test_every_part_hangs_on_the_component_and_goes_to_the_sites_own_project() -> None:
    monitor = declared()
    tree.check(monitor)
    google = monitor.one("pulumi:providers:gcp")
    assert (google.inputs["project"], google.inputs["region"]) == ("a-project", "europe-west4")
    parts = [resource for resource in monitor.all() if resource.type.startswith("gcp:")]
    assert {resource.provider.rsplit("::", 1)[0] for resource in parts} == {google.urn}


def test_a_preview_declares_all_that_an_up_does() -> None:
    assert {each.urn for each in declared(preview=True).all()} == {each.urn for each in declared().all()}


def test_the_cluster_is_zonal_private_and_cannot_go_by_mistake() -> None:
    cluster = declared().one(CLUSTER)
    assert cluster.protect
    assert cluster.inputs["deletionProtection"] is True
    assert cluster.inputs["location"] == "europe-west4-b"
    assert cluster.inputs["privateClusterConfig"]["enablePrivateNodes"] is True
    authorized = cluster.inputs["masterAuthorizedNetworksConfig"]
    assert authorized == {"cidrBlocks": [{"cidrBlock": "192.0.2.0/24"}], "gcpPublicCidrsAccessEnabled": False}
    assert cluster.inputs["datapathProvider"] == "ADVANCED_DATAPATH"
    assert cluster.inputs["workloadIdentityConfig"] == {"workloadPool": "a-project.svc.id.goog"}
    assert cluster.inputs["resourceLabels"] == {"atlas-sites-site": "hill"}


def test_the_cluster_says_nothing_of_nodes_that_would_replace_it() -> None:
    inputs = declared().one(CLUSTER).inputs
    assert inputs["removeDefaultNodePool"] is True
    assert not {"nodeConfig", "nodePools", "nodeVersion", "enableAutopilot"} & set(inputs)


def test_what_is_paid_for_by_volume_is_off() -> None:
    inputs = declared().one(CLUSTER).inputs
    assert inputs["loggingConfig"] == {"enableComponents": []}
    assert inputs["monitoringConfig"]["managedPrometheus"] == {"enabled": False}


@pytest.mark.parametrize(
    ("day", "hour", "start", "end"),
    [
        ("Monday", 0, "2026-01-05T00:00:00Z", "2026-01-05T12:00:00Z"),
        ("Sunday", 18, "2026-01-11T18:00:00Z", "2026-01-12T06:00:00Z"),
    ],
)
def test_maintenance_recurs_on_the_day_that_its_first_window_has(day: str, hour: int, start: str, end: str) -> None:
    window = recurring(Maintenance(day=day, start_hour_utc=hour, hours=12))
    assert (window.start_time, window.end_time) == (start, end)
    assert window.recurrence == f"FREQ=WEEKLY;BYDAY={day[:2].upper()}"


def test_the_nat_keeps_idle_connections_as_long_as_it_is_told_and_deals_out_ports() -> None:
    nat = declared().one(NAT).inputs
    assert nat["tcpEstablishedIdleTimeoutSec"] == 1200
    assert nat["enableDynamicPortAllocation"] is True
    assert nat["enableEndpointIndependentMapping"] is False
    for ports in (nat["minPortsPerVm"], nat["maxPortsPerVm"]):
        assert ports & (ports - 1) == 0


def test_keepalive_comes_before_whatever_forgets_connections() -> None:
    assert min(240, gcp_nodes.FIREWALL_IDLE_SECONDS) >= KEEPALIVE_MAX_SECONDS * 1.2
    assert "cluster.natIdleSeconds is 200; allowed: at least 240" in told(natIdleSeconds=200)[0]


def test_nodes_may_do_what_google_asks_for_and_wait_until_they_may() -> None:
    monitor = declared()
    grants = monitor.all("gcp:projects/iAMMember:IAMMember")
    assert {grant.inputs["role"] for grant in grants} == {
        "roles/container.defaultNodeServiceAccount",
        "roles/artifactregistry.reader",
    }
    nat = monitor.one(NAT)
    for each in monitor.all(POOL):
        assert set(each.depends_on) >= {nat.urn, *(grant.urn for grant in grants)}
        assert each.inputs["nodeConfig"]["workloadMetadataConfig"] == {"mode": "GKE_METADATA"}


def test_job_nodes_come_and_go_by_the_autoscaler_alone() -> None:
    jobs = pool_named(declared(), "jobs1")
    assert jobs.inputs["autoscaling"] == {"totalMinNodeCount": 0, "totalMaxNodeCount": 10, "locationPolicy": "ANY"}
    assert "nodeCount" not in jobs.inputs
    assert jobs.ignore_changes == ["initialNodeCount"]


def test_a_pool_that_retires_stays_as_it_is_where_a_change_would_make_it_anew() -> None:
    retiring = pool_named(declared(pool(retiring=True)), "jobs1")
    assert not retiring.protect
    assert set(retiring.ignore_changes) == {"initialNodeCount", *NODES_ANEW}


def test_only_job_nodes_are_kept_for_startds() -> None:
    monitor = declared()
    jobs, system = (pool_named(monitor, name).inputs["nodeConfig"] for name in ("jobs1", "system"))
    assert (jobs["labels"], jobs["taints"]) == ({LABEL: "jobs1"}, [TAINT])
    assert not system.get("labels")
    assert not system.get("taints")
    assert jobs["resourceLabels"] == {"atlas-sites-site": "hill", "atlas-sites-pool": "jobs1"}


@pytest.mark.parametrize(
    ("size", "chosen", "number"),
    [("c3d-standard-16-lssd", None, 1), ("c3d-standard-60-lssd", None, 4), ("n2d-standard-16", 2, 2)],
)
def test_the_number_of_local_ssds_is_always_written(size: str, chosen: int | None, number: int) -> None:
    jobs = pool_named(declared(pool(size=size, local_ssds=chosen)), "jobs1")
    assert jobs.inputs["nodeConfig"]["ephemeralStorageLocalSsdConfig"] == {"localSsdCount": number}
    assert "nodeConfig.machineType" in jobs.replace_on_changes


def test_series_that_take_no_persistent_disk_boot_from_another() -> None:
    node = pool_named(declared(pool(size="c4-standard-16-lssd")), "jobs1").inputs["nodeConfig"]
    assert node["bootDisk"]["diskType"] == "hyperdisk-balanced"


@pytest.mark.parametrize(("drain", "wait"), [(3720, "3720s"), (8 * 24 * 3600, "604800s")])
def test_an_upgrade_waits_for_startds_as_long_as_gke_can(drain: int, wait: str) -> None:
    settings = pool_named(declared(drain=drain), "jobs1").inputs["upgradeSettings"]
    assert settings["strategy"] == "BLUE_GREEN"
    assert settings["blueGreenSettings"]["autoscaledRolloutPolicy"] == {"waitForDrainDuration": wait}


def test_a_pool_may_go_only_after_it_was_retired() -> None:
    monitor = declared(pool(retiring=True, least=3), pool(generation=2))
    old, new = pool_named(monitor, "jobs1"), pool_named(monitor, "jobs2")
    assert (old.protect, new.protect) == (False, True)
    assert old.inputs["autoscaling"]["totalMinNodeCount"] == 0


def test_the_site_waits_for_nodes_and_the_way_out_and_its_access_is_secret() -> None:
    monitor = declared(site=True)
    provider = monitor.one("pulumi:providers:kubernetes")
    assert provider.secrets == ["kubeconfig"]
    assert provider.inputs["clusterIdentifier"] == "hill-cluster"
    # The engine ends the update of all sites over a provider that it left out.
    assert provider.depends_on == []
    objects = [each for each in monitor.all() if each.type.startswith("kubernetes:")]
    needs = {monitor.one(NAT).urn, *(each.urn for each in monitor.all(POOL))}
    assert len(objects) > 5
    assert [each.name for each in objects if not needs <= set(each.depends_on)] == []
    assert needs.isdisjoint(monitor.one("atlas-sites:index:Namespaces").depends_on)
    assert monitor.one("atlas-sites:cluster:GoogleCluster").outputs_secret == ["kubeconfig"]


def test_a_kubeconfig_holds_no_secret_and_asks_nobody() -> None:
    document = json.loads(kubeconfig("atlas-hill", "192.0.2.1", "Q0E="))
    assert document["clusters"][0]["cluster"] == {
        "server": "https://192.0.2.1",
        "certificate-authority-data": "Q0E=",
    }
    login = document["users"][0]["user"]["exec"]
    assert (login["command"], login["interactiveMode"]) == ("gke-gcloud-auth-plugin", "Never")
    assert document["current-context"] == document["contexts"][0]["name"]


@pytest.mark.parametrize(("cores", "kept"), [(1, 0.06), (2, 0.07), (4, 0.08), (16, 0.11), (30, 0.145)])
def test_cores_are_kept_as_gke_documents_it(cores: int, kept: float) -> None:
    assert gcp_nodes.reserved_cores(cores) == pytest.approx(kept)


@pytest.mark.parametrize(("gib", "kept_gib"), [(4, 1.0), (8, 1.8), (16, 2.6), (64, 5.48), (256, 11.88)])
def test_memory_is_kept_as_gke_documents_it(gib: int, kept_gib: float) -> None:
    assert gcp_nodes.reserved_memory_mib(gib * 1024) == pytest.approx(kept_gib * 1024 + 100, abs=1)


@pytest.mark.parametrize(("ssds", "kept_gib"), [(1, 50), (2, 75), (3, 100), (8, 100)])
def test_of_local_ssds_gke_keeps_by_their_number(ssds: int, kept_gib: int) -> None:
    assert gcp_nodes.usable_disk_mib(ssds, 375) == int((ssds * 375 * 0.98 * 0.9 - kept_gib) * 1024)
    assert gcp_nodes.usable_disk_mib(0, 0) == 0


def test_a_price_without_that_of_the_disks_is_none() -> None:
    table = machines("gcp")
    assert gcp_nodes.price(table["e2-standard-4"], spot=False) == table["e2-standard-4"].price_per_hour
    assert gcp_nodes.price(table["n2d-standard-16"], spot=False) is None


def test_each_machine_type_has_its_disks_one_way_or_has_none() -> None:
    table = machines("gcp")
    assert len(table) >= 20
    for name, machine in table.items():
        assert bool(machine.ssd_gib) == bool(machine.ssds or machine.disk_gib), name
        assert not (machine.ssds and machine.disk_gib), name
        assert bool(machine.disk_gib) == name.endswith("-lssd"), name


@pytest.mark.parametrize(("name", "most"), [(naming.google, 40), (naming.google_account, 30)])
def test_names_on_google_cloud_fit_and_do_not_meet(name: Any, most: int) -> None:
    longest = "a" * naming.SITE_NAME_MAX
    other = f"{longest[:-1]}b"
    assert len(name(longest)) == most
    assert name(longest) != name(other)
    assert name("hill") == "atlas-hill"
    assert len(name("a")) >= 6


def stack() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHECKOUT / "Pulumi.gcp.yaml").read_text())["config"]
    return values


def told(
    *,
    job_pool: dict[str, Any] | None = None,
    other_pool: dict[str, Any] | None = None,
    startds: dict[str, Any] | None = None,
    **cluster: Any,
) -> list[str]:
    """What is said of the example stack with these changes."""
    [site] = stack()["atlas-sites:sites"]
    site["cluster"].update(cluster)
    site["jobPools"][0].update(job_pool or {})
    site["jobPools"][1].update(other_pool or {})
    site["startds"].update(startds or {})
    return sites_of(json.dumps([site]), None, secret=False)[1]


def test_a_cache_of_cvmfs_that_fills_the_nodes_disk_is_one_sentence() -> None:
    [site] = stack()["atlas-sites:sites"]
    site["cvmfs"]["quotaMib"] = 60 * 1024
    assert sites_of(json.dumps([site]), None, secret=False)[1] == []
    site["cvmfs"]["quotaMib"] += 1
    (sentence,) = sites_of(json.dumps([site]), None, secret=False)[1]
    assert sentence.startswith("sites[0].cvmfs.quotaMib is 61441: ")
    assert "allowed: at most 61440" in sentence


def test_the_example_stack_is_right() -> None:
    assert told() == []
    images, found = images_of(json.dumps(stack()["atlas-sites:images"]), "gcp")
    assert (images is not None, found) == (True, [])


@pytest.mark.parametrize(
    ("job_pool", "words"),
    [
        ({"size": "c3d-standard-17-lssd"}, "size is c3d-standard-17-lssd, which components/cluster/machines_gcp.json"),
        ({"size": "e2-standard-8"}, "size is e2-standard-8, which takes no local SSD: take one that does"),
        ({"size": "n2-standard-16"}, "localSsds is missing: n2-standard-16 has none of its own; allowed: 2, 4, 8"),
        ({"size": "n2-standard-16", "localSsds": 1}, "localSsds is 1; allowed for n2-standard-16: 2, 4, 8"),
        ({"localSsds": 2}, "localSsds is 2: c3d-standard-16-lssd has 1, no more and no fewer"),
        (
            {"size": "c3d-standard-8-lssd"},
            "size is c3d-standard-8-lssd, too small for one startd: its startds.requestedCores",
        ),
    ],
)
def test_a_pool_that_gke_cannot_make_or_a_startd_not_use_is_one_sentence(job_pool: dict[str, Any], words: str) -> None:
    (sentence,) = told(job_pool=job_pool)
    assert sentence.startswith(f"sites[0].jobPools[0].{words}")


def test_a_limit_on_costs_needs_a_price_of_each_pool_that_stays() -> None:
    limits = {"limits": {"pods": 10, "cores": 80, "memoryMib": 163840, "costPerHour": 5}}
    priced = {"pricePerHour": 0.5}
    assert told(startds=limits, job_pool=priced, other_pool=priced) == []
    (sentence,) = told(startds=limits, other_pool=priced)
    assert sentence.startswith("sites[0].jobPools[0].pricePerHour is missing: startds.limits.costPerHour needs to know")
    assert told(startds=limits, job_pool={"retiring": True}, other_pool=priced) == []


def test_a_retiring_pool_need_not_fit() -> None:
    assert told(job_pool={"size": "c3d-standard-8-lssd", "retiring": True}) == []


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"zone": "europe-west1-b"}, "zone is 'europe-west1-b': allowed is a zone of cluster.region, europe-west4"),
        ({"zone": "europe-west4"}, "zone is 'europe-west4': allowed is a zone of cluster.region"),
        ({"maintenance": {"hours": 8}}, "maintenance.hours is 8: GKE wants 48 hours in any 32 days"),
        ({"network": "10.130.0.0/16"}, "network is 10.130.0.0/16, and pods have 10.128.0.0/11"),
        ({"network": "10.224.0.0/26"}, "network is 10.224.0.0/26: it has 60 addresses for nodes, of which there may"),
        ({"network": "fd00::/64"}, "network is fd00::/64: nodes of GKE have IPv4 addresses"),
        ({"systemPool": {"size": "e2-standard-5"}}, "systemPool.size is e2-standard-5, which components/cluster"),
        ({"mode": "Autopilot"}, "mode is 'Autopilot'; allowed: Standard; Autopilot forbids the privileged pods"),
    ],
)
def test_a_cluster_that_google_would_refuse_is_one_sentence(cluster: dict[str, Any], words: str) -> None:
    (sentence,) = told(**cluster)
    assert sentence.startswith(f"sites[0].cluster.{words}")
