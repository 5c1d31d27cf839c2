"""What a cluster has room and a set has money for."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from services.vacuum.cluster import (
    Cluster,
    Known,
    Node,
    NodePool,
    Quota,
    Range,
    demand_of,
    node_of,
    pools_of,
    quota_of,
    ranges_of,
)
from services.vacuum.limits import alone, bounds, open_to
from services.vacuum.model import Bound, Size, Spec

pytestmark = pytest.mark.fast

GIB = 2.0**30
SPEC = Spec(template="t", size=Size(), pods=1000)
POD = {
    "nodeSelector": {"role": "jobs"},
    "tolerations": [{"key": "jobs", "operator": "Exists"}],
    "initContainers": [{"name": "software", "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}}}],
    "containers": [
        {
            "name": "startd",
            "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "4", "memory": "4Gi"}},
        }
    ],
}
DEMAND = demand_of(POD)
NODE = Node(name="n", labels={"role": "jobs"}, holds={"cpu": 8.0, "memory": 30 * GIB, "pods": 110.0})
POOL = NodePool(
    name="jobs", selector={"role": "jobs"}, maximum=5, holds={"cpu": 8.0, "memory": 30 * GIB, "pods": 110.0}, price=0.8
)
NOTHING = Cluster(nodes=Known(value=[NODE]), pools=Known(value=()), quotas=Known(value=()), ranges=Known(value=()))


def found(cluster: Cluster, *, spec: Spec = SPEC, have: int = 0) -> dict[str, Bound]:
    return {bound.name: bound for bound in bounds(cluster, DEMAND, spec, have=have)}


def test_a_startd_asks_for_what_its_containers_and_its_first_ones_do() -> None:
    assert DEMAND.requests == {"cpu": 2.0, "memory": 4 * GIB, "pods": 1}
    assert DEMAND.limits == {"cpu": 4.0, "memory": 4 * GIB}


def test_the_nodes_hold_what_the_scarcest_of_their_resources_does() -> None:
    assert found(NOTHING)["nodes"].startds == 4
    tight = replace(NODE, holds={**NODE.holds, "memory": 9 * GIB})
    assert found(replace(NOTHING, nodes=Known(value=[tight, NODE])))["nodes"].startds == 2 + 4
    assert alone(found(NOTHING).values()) == 4


@pytest.mark.parametrize(
    "node",
    [
        replace(NODE, usable=False),
        replace(NODE, labels={}),
        node_of(
            {
                "metadata": {"name": "n", "labels": {"role": "jobs"}},
                "spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]},
                "status": {"allocatable": {"cpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]},
            }
        ),
    ],
)
def test_a_node_that_takes_no_startds_holds_none(node: Node) -> None:
    assert found(replace(NOTHING, nodes=Known(value=[node])))["nodes"].startds == 0


@pytest.mark.parametrize(
    ("requirement", "fits"),
    [
        ({"key": "zone", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "zone", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "zone", "operator": "Exists"}, True),
        ({"key": "zone", "operator": "DoesNotExist"}, False),
        ({"key": "gpus", "operator": "Gt", "values": ["1"]}, True),
        ({"key": "gpus", "operator": "Lt", "values": ["1"]}, False),
        ({"key": "zone", "operator": "Gt", "values": ["1"]}, False),
    ],
)
def test_affinity_is_read_as_the_scheduler_reads_it(requirement: dict[str, object], *, fits: bool) -> None:
    required = {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    node = replace(NODE, labels={"zone": "a", "gpus": "2"})
    assert open_to(node, demand_of({"containers": [], "affinity": affinity})) is fits


def test_what_an_autoscaler_may_add_is_room() -> None:
    growing = replace(NOTHING, pools=Known(value=(POOL,)))
    assert found(growing)["nodes"].startds == 4 + 4 * 4
    assert found(replace(growing, pools=Known(value=(replace(POOL, maximum=0),))))["nodes"].startds == 4


def test_what_nobody_knows_is_told_and_is_neither_nought_nor_infinite() -> None:
    blind = found(Cluster(nodes=Known(why="403 nodes is forbidden")), spec=replace(SPEC, cost_per_hour=1.0))
    assert {name: bound.startds for name, bound in blind.items()} == dict.fromkeys(
        ("quota", "limit range", "nodes", "cost")
    )
    assert "nodes is forbidden" in blind["nodes"].because
    growth = found(replace(NOTHING, pools=Known(why="the stack does not say")))["nodes"]
    assert growth.startds is None
    assert growth.because == "1 of 1 nodes hold 4, what an autoscaler may add is unknown: the stack does not say"


def test_what_is_old_rules_on_and_is_told_to_be_old() -> None:
    old = found(replace(NOTHING, nodes=Known(value=[NODE], stale=True, why="no answer")))["nodes"]
    assert (old.startds, old.stale) == (4, True)
    assert old.because.endswith("(no answer)")


def test_a_quota_counts_our_own_startds_as_used_already() -> None:
    quota = Quota(name="site", hard={"limits.cpu": 100.0, "pods": 40.0}, used={"limits.cpu": 60.0, "pods": 12.0})
    bound = found(replace(NOTHING, quotas=Known(value=[quota])), have=5)["quota site"]
    assert (bound.startds, bound.because) == (5 + 10, "60 of 100 limits.cpu are used")


def test_a_quota_that_is_not_about_startds_does_not_count() -> None:
    raw = {"metadata": {"name": "q"}, "spec": {"scopes": ["BestEffort"]}, "status": {"hard": {"pods": "0"}}}
    assert quota_of(raw) is None
    assert quota_of({**raw, "spec": {}}) == Quota(name="q", hard={"pods": 0.0}, used={})


def test_a_template_above_a_limit_range_can_have_no_startd_and_is_told_why() -> None:
    raw = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "3"}}]}}
    bound = found(replace(NOTHING, ranges=Known(value=ranges_of(raw))))["limit range small"]
    assert bound.startds == 0
    assert "no container may have more than 3 cpu, and the template asks for 4" in bound.because
    roomy = Range(name="r", kind="Pod", most={"cpu": 4.0})
    assert "limit range r" not in found(replace(NOTHING, ranges=Known(value=[roomy])))


def test_money_buys_parts_of_the_dearest_node_that_it_may_be() -> None:
    rich = replace(SPEC, cost_per_hour=10.0)
    pools = Known[Sequence[NodePool]](value=(POOL, replace(POOL, name="dear", price=4.0)))
    bound = found(replace(NOTHING, pools=pools), spec=rich)["cost"]
    assert (bound.startds, bound.because) == (10, "limits.costPerHour 10, a startd costs 1 on dear")
    unpriced = Known[Sequence[NodePool]](value=(replace(POOL, price=None),))
    assert found(replace(NOTHING, pools=unpriced), spec=rich)["cost"].startds is None


def test_the_node_pools_that_the_stack_writes_are_read() -> None:
    (pool,) = pools_of(
        [{"name": "j", "selector": {"a": "b"}, "max": 3, "cores": 7.5, "memoryMib": 1024, "diskMib": 2048}]
    )
    assert (pool.maximum, pool.price, pool.holds["cpu"], pool.holds["memory"]) == (3, None, 7.5, GIB)
    assert pool.has(replace(NODE, labels={"a": "b", "c": "d"}))
    assert not pool.has(NODE)


amounts = st.floats(0, 100).map(round).map(float)


@settings(deadline=None, max_examples=40)
@given(amounts, amounts, amounts, st.integers(0, 20), st.integers(0, 10), st.integers(0, 50))
def test_more_room_and_more_money_never_mean_less(
    cpu: float, hard: float, money: float, most: int, more: int, have: int
) -> None:
    def startds(extra: int) -> dict[str, int | None]:
        quota = Quota(name="q", hard={"requests.cpu": hard + extra}, used={"requests.cpu": 10.0})
        cluster = replace(
            NOTHING,
            nodes=Known(value=[replace(NODE, holds={**NODE.holds, "cpu": cpu + extra})]),
            pools=Known(value=(replace(POOL, maximum=most + extra),)),
            quotas=Known(value=[quota]),
        )
        known = found(cluster, spec=replace(SPEC, cost_per_hour=money + extra), have=have)
        return {name: bound.startds for name, bound in known.items()}

    less, larger = startds(0), startds(more)
    assert all(0 <= (less[name] or 0) <= (larger[name] or 0) for name in less)
