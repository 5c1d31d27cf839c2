"""What is read of the cluster and of a template: amounts, taints, pools, and what is malformed."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from services.vacuum.cluster import (
    Cluster,
    Demand,
    Known,
    Node,
    Quota,
    Taint,
    demand_of,
    node_of,
    pools_of,
    quota_of,
    retiring,
)

pytestmark = pytest.mark.fast

GIB = 2.0**30
POOL = {
    "name": "jobs",
    "selector": {"pool": "jobs"},
    "max": 3,
    "cores": 7.5,
    "memoryMib": 1024,
    "diskMib": 2048,
    "pods": 110,
}


def box(requests: dict[str, str], limits: dict[str, str] | None = None, **more: str) -> dict[str, Any]:
    return {"resources": {"requests": requests, "limits": limits or {}}, **more}


def test_a_startd_asks_for_what_its_containers_do_side_by_side_and_its_first_ones_before_them() -> None:
    demand = demand_of(
        {
            "initContainers": [box({"cpu": "10m"}, {"memory": "64Mi"}), box({"memory": "9Gi"})],
            "containers": [box({"cpu": "2"}, {"cpu": "4", "memory": "4Gi"}), box({"cpu": "500m"}, {"cpu": "1"})],
        }
    )
    assert demand.requests == {"cpu": 2.5, "memory": 9 * GIB, "pods": 1}
    assert demand.limits == {"cpu": 5.0, "memory": 4 * GIB}
    assert demand.largest == {"cpu": 4.0, "memory": 4 * GIB}
    assert demand.steepest == {"cpu": 2.0, "memory": 1.0}


def test_an_init_container_that_stays_runs_beside_the_others_and_the_later_first_ones() -> None:
    helper = box({"cpu": "1"}, restartPolicy="Always")
    demand = demand_of({"initContainers": [helper, box({"cpu": "3"})], "containers": [box({"cpu": "2"})]})
    assert demand.requests["cpu"] == 4.0


def test_a_startd_that_asks_for_nothing_is_of_best_effort() -> None:
    assert demand_of({"containers": [{"name": "startd"}]}).best_effort
    assert not demand_of({"containers": [box({}, {"cpu": "1"})]}).best_effort


def test_priority_and_deadline_are_read_for_the_scopes_of_quotas() -> None:
    demand = demand_of({"priorityClassName": "low", "activeDeadlineSeconds": 60})
    assert (demand.priority, demand.deadline) == ("low", True)


words = st.none() | st.sampled_from(["1", "x", "1.2.3", "-1", "", "5m"])
boxes = (
    st.none()
    | st.just(["x"])
    | st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "resources": st.none()
                | st.dictionaries(
                    st.sampled_from(["requests", "limits"]),
                    st.none() | st.dictionaries(st.sampled_from(["cpu", "memory"]), words),
                )
            },
        ),
        max_size=3,
    )
)


@settings(deadline=None, max_examples=40)
@given(boxes, boxes, st.none() | st.just({"nodeAffinity": None}))
def test_a_malformed_template_is_left_to_the_api_server_to_refuse(
    first: object, then: object, affinity: object
) -> None:
    pod = {"initContainers": first, "containers": then, "affinity": affinity, "nodeSelector": None, "tolerations": "x"}
    demand = demand_of(pod)
    assert all(amount >= 0 for amount in demand.requests.values())
    assert demand.tolerations == ()


def test_a_node_is_trimmed_to_what_a_startd_may_have_of_it() -> None:
    raw = {
        "metadata": {"name": "n", "labels": {"a": "b"}, "annotations": {"long": "text"}},
        "spec": {
            "taints": [
                {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
                {"key": "slow", "effect": "PreferNoSchedule"},
            ]
        },
        "status": {
            "allocatable": {"cpu": "3920m", "memory": "2Gi", "pods": "110", "hugepages-2Mi": "0"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": [{"names": ["long"]}],
        },
    }
    assert node_of(raw) == Node(
        name="n",
        labels={"a": "b"},
        taints=(Taint(key="gpu", value="yes", effect="NoSchedule"),),
        holds={"cpu": 3.92, "memory": 2 * GIB, "pods": 110.0},
    )


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({"unschedulable": True}, "True"),
        ({}, "False"),
        ({}, "Unknown"),
    ],
)
def test_a_node_that_is_cordoned_or_not_ready_takes_no_pods(spec: dict[str, object], status: str) -> None:
    raw = {"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": status}]}}
    assert not node_of(raw).usable


def test_a_quota_keeps_its_scopes_in_one_form() -> None:
    selected = {"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}
    raw = {
        "metadata": {"name": "q"},
        "spec": {"scopes": ["NotBestEffort"], "scopeSelector": {"matchExpressions": [selected]}},
        "status": {"hard": {"pods": "5", "limits.memory": "1Gi"}, "used": {"pods": "2"}},
    }
    assert quota_of(raw) == Quota(
        name="q",
        hard={"pods": 5.0, "limits.memory": GIB},
        used={"pods": 2.0},
        scopes=({"scopeName": "NotBestEffort", "operator": "Exists"}, selected),
    )


def test_the_node_pools_that_the_stack_writes_are_read() -> None:
    (pool,) = pools_of([POOL])
    assert (pool.maximum, pool.price, pool.holds["cpu"], pool.holds["memory"]) == (3, None, 7.5, GIB)
    assert pool.has(Node(name="n", labels={"pool": "jobs", "c": "d"}))
    assert not pool.has(Node(name="n"))
    (tainted,) = pools_of(
        [{**POOL, "pricePerHour": 0.5, "taints": [{"key": "gpu", "value": "", "effect": "NoExecute"}]}]
    )
    assert (tainted.price, tainted.taints) == (0.5, (Taint(key="gpu", effect="NoExecute"),))


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"jobs": POOL}, "it is not a list"),
        (["jobs"], "pool 0 cannot be read"),
        ([POOL, {**POOL, "max": "many"}], "pool 1 cannot be read"),
        ([{"name": "jobs"}], "pool 0 cannot be read"),
        ([{**POOL, "selector": {}}], "pool jobs has no selector"),
        ([{**POOL, "cores": -1}], "pool jobs has a number that is negative or without end"),
        ([{**POOL, "pricePerHour": float("nan")}], "pool jobs has a number that is negative or without end"),
    ],
)
def test_node_pools_that_somebody_else_wrote_wrongly_are_refused_with_what_is_wrong(
    entries: Any,
    sentence: str,
) -> None:
    with pytest.raises(ValueError, match=sentence):
        pools_of(entries)


def test_the_nodes_of_a_pool_that_retires_are_to_become_empty_unless_nobody_knows_for_sure() -> None:
    pools = pools_of([{**POOL, "retiring": True}, {**POOL, "name": "new", "selector": {"pool": "new"}}])
    nodes = [Node(name=f"node-{pool}", labels={"pool": pool}) for pool in ("jobs", "new", "none")]
    seen = Cluster(nodes=Known(value=nodes), pools=Known(value=pools))
    assert retiring(seen) == {"node-jobs"}
    assert retiring(Cluster(nodes=Known(value=nodes, stale=True), pools=Known(value=pools))) == frozenset()
    assert retiring(Cluster(nodes=Known(value=nodes), pools=Known(value=pools, stale=True))) == frozenset()
    assert retiring(Cluster()) == frozenset()


def test_nothing_asked_is_nothing_demanded() -> None:
    assert demand_of({}) == Demand(requests={"pods": 1})
