"""The vacuum controller: it may do what it does and no more, and is told what the cluster may grow to."""

import json
from typing import Any

import pytest

from components.cluster.pools import NodePool, Taint
from components.vacuum import POOLS, POOLS_DIRECTORY, Vacuum, VacuumArgs
from services.vacuum.cluster import pools_of
from services.vacuum.survey import POOLS as READ
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
RBAC = "kubernetes:rbac.authorization.k8s.io/v1:"
POOL = NodePool(
    name="jobs",
    selector={"pool": "jobs"},
    most=20,
    cores=15.8,
    memory_mib=60_000,
    disk_mib=400_000,
    pods=110,
    taints=[Taint(key="jobs", value="only", effect="NoSchedule")],
    price_per_hour=0.7,
)


def declared(**changes: Any) -> Monitor:
    given_all = {
        "site": "here",
        "namespace": "here",
        "priority": "here-service",
        "image": f"registry.example.org/atlas/services@sha256:{'0' * 64}",
    }
    return deploy(lambda: Vacuum("here-vacuum", VacuumArgs(**{**given_all, **changes})))


def test_every_part_hangs_on_the_component_and_keeps_to_the_policies() -> None:
    monitor = declared(pools=[POOL])
    tree.check(monitor)
    component = monitor.one("atlas-sites:index:Vacuum")
    assert len(monitor.children(component)) == len(monitor.resources) - 2


def test_outside_its_namespace_it_may_read_nodes_and_nothing_else() -> None:
    monitor = declared()
    (rule,) = monitor.one(f"{RBAC}ClusterRole").inputs["rules"]
    assert rule == {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}
    binding = monitor.one(f"{RBAC}ClusterRoleBinding").inputs
    assert binding["roleRef"]["name"] == monitor.one(f"{RBAC}ClusterRole").inputs["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "vacuum", "namespace": "here"}]


def test_what_bounds_it_may_be_read_and_not_written() -> None:
    rules = declared().one(f"{RBAC}Role").inputs["rules"]
    (verbs,) = [rule["verbs"] for rule in rules if "resourcequotas" in rule["resources"]]
    assert verbs == ["list", "watch"]
    assert not any({"configmaps", "secrets"} & set(rule["resources"]) for rule in rules)


def test_two_sites_on_one_cluster_share_no_object_that_belongs_to_no_namespace() -> None:
    names = {declared(site=site).one(f"{RBAC}ClusterRole").inputs["metadata"]["name"] for site in ("here", "there")}
    assert len(names) == 2


def test_the_controller_reads_the_node_pools_that_the_stack_wrote() -> None:
    monitor = declared(pools=[POOL])
    written = monitor.one(CONFIG_MAP).inputs
    assert written["metadata"]["name"] == POOLS
    (pool,) = pools_of(json.loads(written["data"][READ.name]))
    assert (pool.name, pool.selector, pool.maximum, pool.price) == ("jobs", {"pool": "jobs"}, 20, 0.7)
    assert pool.holds == {"cpu": 15.8, "memory": 60_000 * 2**20, "ephemeral-storage": 400_000 * 2**20, "pods": 110}
    assert [(taint.key, taint.value, taint.effect) for taint in pool.taints] == [("jobs", "only", "NoSchedule")]


def test_where_nobody_knows_the_node_pools_nothing_is_written_and_the_controller_starts_all_the_same() -> None:
    monitor = declared()
    assert not monitor.all(CONFIG_MAP)
    pod = monitor.one(DEPLOYMENT).inputs["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    assert volume["configMap"] == {"name": POOLS, "optional": True}
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert (mount["mountPath"], mount["readOnly"]) == (str(READ.parent), True)
    assert str(READ.parent) == POOLS_DIRECTORY


def test_an_empty_list_of_node_pools_says_that_there_is_no_autoscaler() -> None:
    assert declared(pools=[]).one(CONFIG_MAP).inputs["data"] == {"pools.json": "[]"}
