"""What a cluster has room and a set has money for."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from services.vacuum.cluster import (
    Cluster,
    Demand,
    Known,
    Node,
    NodePool,
    Quota,
    Range,
    Taint,
    demand_of,
    node_of,
    ranges_of,
)
from services.vacuum.limits import alone, bounds, holds, open_to
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


def found(cluster: Cluster, *, demand: Demand = DEMAND, spec: Spec = SPEC, have: int = 0) -> dict[str, Bound]:
    return {bound.name: bound for bound in bounds(cluster, demand, spec, have=have)}


def test_the_nodes_hold_what_the_scarcest_of_their_resources_does() -> None:
    assert found(NOTHING)["nodes"].startds == 4
    tight = replace(NODE, holds={**NODE.holds, "memory": 9 * GIB})
    assert found(replace(NOTHING, nodes=Known(value=[tight, NODE])))["nodes"].startds == 2 + 4


def test_what_fits_exactly_fits_though_a_computer_has_no_tenths() -> None:
    assert holds({"cpu": 4.0, "pods": 110.0}, replace(DEMAND, requests={"cpu": 0.1, "pods": 1})) == 40
    assert holds({"cpu": 0.3, "pods": 110.0}, replace(DEMAND, requests={"cpu": 0.1, "pods": 1})) == 3
    cents = replace(NOTHING, pools=Known(value=(replace(POOL, price=0.4),)))
    assert found(cents, spec=replace(SPEC, cost_per_hour=0.3))["cost"].startds == 3


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


@pytest.mark.parametrize(
    ("pool", "changes", "grows"),
    [
        (POOL, {"selector": {"role": "services"}}, False),
        (POOL, {"selector": {"kubernetes.io/arch": "amd64"}}, True),  # nobody said what it is there
        (replace(POOL, taints=(Taint(key="jobs", effect="NoSchedule"),)), {}, True),
        (replace(POOL, taints=(Taint(key="gpu", effect="NoSchedule"),)), {}, False),
        (
            POOL,
            {"alternatives": ({"matchExpressions": [{"key": "role", "operator": "NotIn", "values": ["jobs"]}]},)},
            False,
        ),
        (
            POOL,
            {"alternatives": ({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n"]}]},)},
            True,
        ),
    ],
)
def test_only_a_pool_that_startds_may_land_on_grows_for_them(
    pool: NodePool, changes: dict[str, object], *, grows: bool
) -> None:
    cluster = replace(NOTHING, nodes=Known(value=[]), pools=Known(value=(pool,)))
    assert found(cluster, demand=replace(DEMAND, **changes))["nodes"].startds == (20 if grows else 0)  # type: ignore[arg-type]


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


def test_a_quota_tells_memory_as_people_read_it() -> None:
    quota = Quota(name="q", hard={"limits.memory": 100 * GIB}, used={"limits.memory": 64.5 * GIB})
    bound = found(replace(NOTHING, quotas=Known(value=[quota])))["quota q"]
    assert (bound.startds, bound.because) == (8, "64.5 GiB of 100 GiB limits.memory are used")


@pytest.mark.parametrize(
    ("scope", "changes", "counts"),
    [
        ({"scopeName": "BestEffort", "operator": "Exists"}, {}, False),
        ({"scopeName": "BestEffort", "operator": "Exists"}, {"requests": {"pods": 1}}, True),
        ({"scopeName": "NotBestEffort", "operator": "Exists"}, {}, True),
        ({"scopeName": "Terminating", "operator": "Exists"}, {}, False),
        ({"scopeName": "Terminating", "operator": "Exists"}, {"deadline": True}, True),
        ({"scopeName": "NotTerminating", "operator": "Exists"}, {}, True),
        ({"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}, {}, False),
        ({"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}, {"priority": "low"}, True),
        ({"scopeName": "PriorityClass", "operator": "NotIn", "values": ["low"]}, {}, True),
        ({"scopeName": "PriorityClass", "operator": "DoesNotExist"}, {"priority": "low"}, False),
        ({"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}, {}, False),
    ],
)
def test_a_quota_counts_the_pods_in_its_scope(
    scope: dict[str, object], changes: dict[str, object], *, counts: bool
) -> None:
    quota = Quota(name="q", hard={"pods": 3.0}, used={}, scopes=(scope,))
    cluster = replace(NOTHING, quotas=Known(value=[quota]))
    demand = replace(DEMAND, **changes)  # type: ignore[arg-type]
    assert [bound.startds for name, bound in found(cluster, demand=demand).items() if name == "quota q"] == [3] * counts


def alone_on(cluster: Cluster, demand: Demand, startds: Sequence[tuple[Demand, int]]) -> int | None:
    rich = replace(SPEC, cost_per_hour=0.01)  # what a set may spend says nothing of the site
    return alone(bounds(cluster, demand, rich, have=startds[0][1] if startds else 0), cluster.quotas, demand, startds)


def test_alone_a_set_would_have_what_no_other_pod_than_startds_takes_of_a_quota() -> None:
    small = replace(DEMAND, limits={"cpu": 1.0})
    quota = Quota(name="q", hard={"limits.cpu": 100.0}, used={"limits.cpu": 40.0})  # 8 and 12 are startds', 20 squids'
    many = [replace(NODE, name=f"n{number}") for number in range(25)]
    cluster = replace(NOTHING, nodes=Known(value=many), quotas=Known(value=[quota]))
    startds = [(DEMAND, 2), (small, 12)]
    assert alone_on(cluster, DEMAND, startds) == 20
    assert alone_on(cluster, small, startds) == 80
    assert alone_on(NOTHING, DEMAND, startds) == 4


def test_alone_is_what_is_known_and_unknown_only_if_nothing_is() -> None:
    quota = Quota(name="q", hard={"limits.cpu": 100.0}, used={})
    assert alone_on(Cluster(quotas=Known(value=[quota])), DEMAND, []) == 25
    assert alone_on(Cluster(), DEMAND, []) is None


def test_a_template_above_a_limit_range_can_have_no_startd_and_is_told_why() -> None:
    raw = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "3"}}]}}
    bound = found(replace(NOTHING, ranges=Known(value=ranges_of(raw))))["limit range small"]
    assert bound.startds == 0
    assert "no container may have more than 3 cpu, and the template asks for 4" in bound.because
    tight = replace(NOTHING, ranges=Known(value=[Range(name="r", kind="Pod", most={"cpu": 3.0, "memory": 2 * GIB})]))
    assert [name for name in found(tight) if name.startswith("limit")] == ["limit range r"]
    assert "more than 2 GiB memory, and the template asks for 4 GiB" in found(tight)["limit range r"].because
    roomy = Range(name="r", kind="Pod", most={"cpu": 4.0})
    assert "limit range r" not in found(replace(NOTHING, ranges=Known(value=[roomy])))


@pytest.mark.parametrize("kind", ["Container", "Pod"])
def test_a_template_that_overcommits_more_than_a_limit_range_lets_it_can_have_no_startd(kind: str) -> None:
    def startds(ratio: float) -> list[Bound]:
        strict = Range(name="r", kind=kind, ratio={"cpu": ratio})
        some = found(replace(NOTHING, ranges=Known(value=[strict])))
        return [bound for name, bound in some.items() if name == "limit range r"]

    assert startds(2.0) == []
    [bound] = startds(1.5)
    assert bound.startds == 0
    assert bound.because.startswith(
        f"the cpu limit of a {kind.lower()} may be 1.5 times its request, and the template's is 2"
    )


def test_money_buys_parts_of_the_dearest_node_that_it_may_be() -> None:
    rich = replace(SPEC, cost_per_hour=10.0)
    pools = Known[Sequence[NodePool]](value=(POOL, replace(POOL, name="dear", price=4.0)))
    bound = found(replace(NOTHING, pools=pools), spec=rich)["cost"]
    assert (bound.startds, bound.because) == (10, "limits.costPerHour 10, a startd costs 1 on dear")
    closed = Known[Sequence[NodePool]](value=(POOL, replace(POOL, selector={"role": "services"}, price=9.0)))
    assert found(replace(NOTHING, pools=closed), spec=rich)["cost"].startds == 50


@pytest.mark.parametrize(
    ("pools", "because"),
    [
        ((), "but prices are unknown: the stack names no node pools"),
        ((replace(POOL, price=None),), "but the price of pool jobs is unknown: set its pricePerHour"),
        ((replace(POOL, price=0.0),), "and a startd costs nothing"),
        (
            (replace(POOL, selector={"role": "x"}),),
            "but the price is unknown: a startd fits into no pool that the stack names",
        ),
    ],
)
def test_a_price_that_nobody_knows_is_told_and_does_not_rule(pools: tuple[NodePool, ...], because: str) -> None:
    bound = found(replace(NOTHING, pools=Known(value=pools)), spec=replace(SPEC, cost_per_hour=10.0))["cost"]
    assert (bound.startds, bound.because) == (None, f"limits.costPerHour 10, {because}")


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


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([0.5, 2.0, 8.0, 64.0]), max_size=6), st.integers(0, 8), st.booleans())
def test_another_node_never_means_less_and_what_is_old_rules_as_what_is_new(
    cores: list[float],
    most: int,
    stale: bool,  # noqa: FBT001  hypothesis gives it by position
) -> None:
    def startds(some: list[float], *, old: bool) -> Bound:
        nodes = [replace(NODE, name=str(number), holds={**POOL.holds, "cpu": each}) for number, each in enumerate(some)]
        known = Known[Sequence[Node]](value=nodes, stale=old, why="no answer" if old else "")
        return found(replace(NOTHING, nodes=known, pools=Known(value=(replace(POOL, maximum=most),))))["nodes"]

    fewer, more = startds(cores, old=stale), startds([*cores, 8.0], old=False)
    assert 0 <= (fewer.startds or 0) <= (more.startds or 0)
    assert (fewer.startds, fewer.stale) == (startds(cores, old=False).startds, stale)
