"""How many startds a cluster has room and a set has money for: each limit with its numbers, the unknown ones too. Pure.

What the nodes hold is an upper bound: what other pods request of them is not asked, since the controller sees no other
namespace. Where less fits than that, the scheduler says so, and the capacity loop listens.
"""

import math
from collections.abc import Iterable, Sequence

from services.vacuum.cluster import Amounts, Cluster, Demand, Json, Known, Node, NodePool, Quota
from services.vacuum.model import Bound, Spec


def bounds(cluster: Cluster, demand: Demand, spec: Spec, *, have: int) -> tuple[Bound, ...]:
    """All limits on a set beside those that its spec states in so many words.

    Args:
        cluster: what is known of it.
        demand: of one startd.
        spec: of the set, for its money.
        have: startds that there are of it.
    """
    found = [*_quotas(cluster.quotas, demand, have), *_ranges(cluster, demand), _room(cluster, demand)]
    if spec.cost_per_hour is not None:
        found.append(_money(cluster.pools, demand, spec.cost_per_hour))
    return tuple(found)


def alone(found: Iterable[Bound]) -> int | None:
    """How many startds the site could hold of a set if there were no other; None if nobody knows."""
    return next((bound.startds for bound in found if bound.name == "nodes"), None)


def holds(amounts: Amounts, demand: Demand) -> int:
    """How many startds fit where so much is free."""
    fits = [amounts.get(name, 0.0) // each for name, each in demand.requests.items() if each]
    return int(min(fits)) if fits and min(fits) < math.inf else 0


def open_to(node: Node, demand: Demand) -> bool:
    """Whether the scheduler may put a startd on a node, if it has room."""
    if not node.usable or not demand.selector.items() <= node.labels.items():
        return False
    if any(
        not any(_tolerates(each, taint.key, taint.value, taint.effect) for each in demand.tolerations)
        for taint in node.taints
    ):
        return False
    return not demand.alternatives or any(_meets(node, term) for term in demand.alternatives)


def _quotas(quotas: Known[Sequence[Quota]], demand: Demand, have: int) -> Iterable[Bound]:
    if quotas.value is None:
        yield Bound(name="quota", startds=None, because=f"quotas are unknown: {quotas.why}")
        return
    for quota in quotas.value:
        rooms = [
            (int((hard - quota.used.get(key, 0.0)) // each), key)
            for key, hard in quota.hard.items()
            if (each := _counted(key, demand))
        ]
        if rooms:
            room, key = min(rooms)
            used = f"{quota.used.get(key, 0.0):g} of {quota.hard[key]:g} {key} are used"
            yield Bound(
                name=f"quota {quota.name}",
                startds=max(0, have + room),
                because=used + _age(quotas),
                stale=quotas.stale,
            )


def _counted(key: str, demand: Demand) -> float:
    """How much of a quota's key one startd takes."""
    if key in {"pods", "count/pods"}:
        return 1
    kind, _, name = key.rpartition(".")
    return (demand.limits if kind == "limits" else demand.requests).get(name, 0.0)


def _ranges(cluster: Cluster, demand: Demand) -> Iterable[Bound]:
    ranges = cluster.ranges
    if ranges.value is None:
        yield Bound(name="limit range", startds=None, because=f"limit ranges are unknown: {ranges.why}")
        return
    for each in ranges.value:
        asked = demand.largest if each.kind == "Container" else demand.limits
        for name, most in each.most.items():
            if asked.get(name, 0.0) > most:
                because = (
                    f"no {each.kind.lower()} may have more than {most:g} {name}, and the template asks for "
                    f"{asked[name]:g}: lower the template's limits or raise the LimitRange"
                )
                yield Bound(
                    name=f"limit range {each.name}", startds=0, because=because + _age(ranges), stale=ranges.stale
                )


def _room(cluster: Cluster, demand: Demand) -> Bound:
    """What the nodes hold that are there, and those that an autoscaler may add."""
    nodes, pools = cluster.nodes, cluster.pools
    if nodes.value is None:
        return Bound(name="nodes", startds=None, because=f"the nodes are unknown: {nodes.why}")
    usable = [node for node in nodes.value if open_to(node, demand)]
    now = sum(holds(node.holds, demand) for node in usable)
    here = f"{len(usable)} of {len(nodes.value)} nodes hold {now}"
    if pools.value is None:
        because = f"{here}, what an autoscaler may add is unknown: {pools.why}"
        return Bound(name="nodes", startds=None, because=because)
    more = sum(_growth(pool, nodes.value, demand) for pool in pools.value)
    stale = nodes.stale or pools.stale
    added = f", nodes that may be added {more}" if pools.value else ""
    return Bound(name="nodes", startds=now + more, because=here + added + _age(nodes), stale=stale)


def _growth(pool: NodePool, nodes: Sequence[Node], demand: Demand) -> int:
    there = sum(pool.has(node) for node in nodes)
    return max(0, pool.maximum - there) * holds(pool.holds, demand)


def _money(pools: Known[Sequence[NodePool]], demand: Demand, per_hour: float) -> Bound:
    """By the dearest node that a startd may land on: its part of that is the larger of its parts of each resource."""
    if not pools.value:
        why = pools.why or "the stack names no node pools"
        return Bound(
            name="cost", startds=None, because=f"limits.costPerHour {per_hour:g}, but prices are unknown: {why}"
        )
    parts = []
    for pool in pools.value:
        if pool.price is None:
            because = (
                f"limits.costPerHour {per_hour:g}, but the price of pool {pool.name} is unknown: set its pricePerHour"
            )
            return Bound(name="cost", startds=None, because=because)
        shares = [demand.requests.get(name, 0.0) / amount for name, amount in pool.holds.items() if amount]
        parts.append((max(shares) * pool.price, pool.name))
    price, dearest = max(parts)
    if not price:
        return Bound(name="cost", startds=None, because=f"limits.costPerHour {per_hour:g}, and a startd costs nothing")
    because = f"limits.costPerHour {per_hour:g}, a startd costs {price:.4g} on {dearest}" + _age(pools)
    return Bound(name="cost", startds=int(per_hour // price), because=because, stale=pools.stale)


def _tolerates(toleration: Json, key: str, value: str, effect: str) -> bool:
    if toleration.get("effect") not in {None, "", effect}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", key}
    return toleration.get("key") == key and toleration.get("value", "") == value


def _meets(node: Node, term: Json) -> bool:
    labels = [_holds(node.labels.get(each["key"]), each) for each in term.get("matchExpressions", ())]
    fields = [_holds(node.name, each) for each in term.get("matchFields", ())]
    return all(labels) and all(fields) and bool(labels or fields)


def _holds(actual: str | None, requirement: Json) -> bool:
    values = requirement.get("values", [])
    match requirement["operator"]:
        case "In":
            return actual in values
        case "NotIn":
            return actual not in values
        case "Exists":
            return actual is not None
        case "DoesNotExist":
            return actual is None
        case operator:
            try:
                left, right = int(actual or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return left > right if operator == "Gt" else left < right


def _age(fact: Known[object]) -> str:
    return f" ({fact.why})" if fact.stale else ""
