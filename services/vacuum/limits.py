"""How many startds a cluster has room and a set has money for: each limit with its numbers, the unknown ones too. Pure.

What the nodes hold is an upper bound: what other pods request of them is not asked, since the controller sees no other
namespace. Where less fits than that, the scheduler says so, and the capacity loop listens.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from services.vacuum.cluster import (
    Amounts,
    Budget,
    Cluster,
    Demand,
    Json,
    Known,
    Node,
    NodePool,
    Quota,
    Range,
    Taint,
    some,
)
from services.vacuum.model import Bound, Spec

# 4 cores hold 40 startds of a tenth, though 4 // 0.1 is 39: no real amounts are so near to each other.
ROUNDING = 1e-9
GIB = 2**30
# Bounds, by the beginnings of their names.
QUOTA, RANGE, NODES, COST, BUDGET = "quota", "limit range", "nodes", "cost", "budget"


def bounds(cluster: Cluster, demand: Demand, spec: Spec, *, have: int) -> tuple[Bound, ...]:
    """All limits on a set beside those that its spec states in so many words.

    Args:
        cluster: what is known of it.
        demand: of one startd.
        spec: of the set, for its money.
        have: startds that there are of it.
    """
    found = [*_quotas(cluster.quotas, demand, have), *_ranges(cluster.ranges, demand), _room(cluster, demand)]
    if spec.cost_per_hour is not None:
        found.append(_money(cluster.pools, demand, spec.cost_per_hour))
    if cluster.budget is not None:
        found.append(_budget(cluster.budget, have))
    return tuple(found)


def alone(
    found: Iterable[Bound], quotas: Known[Sequence[Quota]], demand: Demand, startds: Sequence[tuple[Demand, int]]
) -> int | None:
    """How many startds the site could hold of a set if there were no other; None if nobody knows.

    Args:
        found: the bounds on the set.
        quotas: what is known of them.
        demand: of one startd of the set.
        startds: of each set of the namespace what one of its startds demands, and how many there are: what quotas say
            is used is theirs too, and would be free.
    """
    room = [bound for bound in found if not bound.name.startswith((QUOTA, COST, BUDGET))]
    if quotas.value is not None:
        quotas = replace(quotas, value=[_without(quota, startds) for quota in quotas.value])
    room += _quotas(quotas, demand, 0)
    return min((bound.startds for bound in room if bound.startds is not None), default=None)


def holds(amounts: Amounts, demand: Demand) -> int:
    """How many startds fit where so much is free."""
    return min((_fit(amounts.get(name, 0.0), each) for name, each in demand.requests.items() if each), default=0)


def open_to(node: Node, demand: Demand) -> bool:
    """Whether the scheduler may put a startd on a node, if it has room."""
    if not node.usable or not demand.selector.items() <= node.labels.items():
        return False
    if not _tolerated(node.taints, demand):
        return False
    return not demand.alternatives or any(_meets(node, term) for term in demand.alternatives)


def may_grow(pool: NodePool, demand: Demand) -> bool:
    """Whether a startd may land on a node that is yet to be added; of labels that nobody named it is believed."""
    if not _tolerated(pool.taints, demand):
        return False
    if any(pool.selector.get(key, value) != value for key, value in demand.selector.items()):
        return False
    return not demand.alternatives or any(not _contradicts(pool, term) for term in demand.alternatives)


def _fit(amount: float, each: float) -> int:
    return math.floor(amount / each + ROUNDING)


def _quotas(quotas: Known[Sequence[Quota]], demand: Demand, have: int) -> Iterable[Bound]:
    if quotas.value is None:
        yield Bound(name=QUOTA, startds=None, because=f"quotas are unknown: {quotas.why}")
        return
    for quota in quotas.value:
        rooms = [
            (_fit(hard - quota.used.get(key, 0.0), each), key)
            for key, hard in quota.hard.items()
            if (each := _counted(quota, key, demand))
        ]
        if rooms:
            room, key = min(rooms)
            used = f"{_shown(key, quota.used.get(key, 0.0))} of {_shown(key, quota.hard[key])} {key} are used"
            yield Bound(
                name=f"{QUOTA} {quota.name}",
                startds=max(0, have + room),
                because=used + _age(quotas),
                stale=quotas.stale,
            )


def _counted(quota: Quota, key: str, demand: Demand) -> float:
    """How much of a quota's key one startd takes."""
    if not all(_in_scope(scope, demand) for scope in quota.scopes):
        return 0.0
    if key in {"pods", "count/pods"}:
        return 1.0
    kind, _, name = key.rpartition(".")
    return (demand.limits if kind == "limits" else demand.requests).get(name, 0.0)


def _in_scope(scope: Json, demand: Demand) -> bool:
    match scope["scopeName"]:
        case "Terminating":
            return demand.deadline
        case "NotTerminating":
            return not demand.deadline
        case "BestEffort":
            return demand.best_effort
        case "NotBestEffort":
            return not demand.best_effort
        case "PriorityClass":
            return _satisfies(demand.priority, scope)
        case _:
            return False  # about claims of volumes, or affinity across namespaces


def _without(quota: Quota, startds: Sequence[tuple[Demand, int]]) -> Quota:
    """The quota as if there were no startds."""
    used = {
        key: max(0.0, amount - sum(number * _counted(quota, key, demand) for demand, number in startds))
        for key, amount in quota.used.items()
    }
    return replace(quota, used=used)


def _ranges(ranges: Known[Sequence[Range]], demand: Demand) -> Iterable[Bound]:
    if ranges.value is None:
        yield Bound(name=RANGE, startds=None, because=f"limit ranges are unknown: {ranges.why}")
        return
    for name in dict.fromkeys(each.name for each in ranges.value):
        sentences = [words for each in ranges.value if each.name == name for words in _excesses(each, demand)]
        if sentences:
            because = "; ".join(sentences) + _age(ranges)
            yield Bound(name=f"{RANGE} {name}", startds=0, because=because, stale=ranges.stale)


def _excesses(each: Range, demand: Demand) -> Iterable[str]:
    """What in the template makes the API server refuse each pod."""
    kind, whole = each.kind.lower(), each.kind == "Pod"
    asked = demand.limits if whole else demand.largest
    for name, most in each.most.items():
        if asked.get(name, 0.0) > most:
            yield (
                f"no {kind} may have more than {_shown(name, most)} {name}, and the template asks for "
                f"{_shown(name, asked[name])}: lower the template's limits or raise the LimitRange"
            )
    for name, most in each.ratio.items():
        request, limit = demand.requests.get(name, 0.0), demand.limits.get(name, 0.0)
        ratio = (limit / request if request else 0.0) if whole else demand.steepest.get(name, 0.0)
        if ratio > most + ROUNDING:
            yield (
                f"the {name} limit of a {kind} may be {most:g} times its request, and the template's is {ratio:.4g} "
                "times: raise the template's requests or the LimitRange"
            )


def _room(cluster: Cluster, demand: Demand) -> Bound:
    """What the nodes hold that are there, and those that an autoscaler may add."""
    nodes, pools = cluster.nodes, cluster.pools
    if nodes.value is None:
        return Bound(name=NODES, startds=None, because=f"the nodes are unknown: {nodes.why}")
    usable = [node for node in nodes.value if open_to(node, demand)]
    now = sum(holds(node.holds, demand) for node in usable)
    here = f"{len(usable)} of {len(nodes.value)} nodes hold {now}"
    if pools.value is None:
        because = f"{here}, what an autoscaler may add is unknown: {pools.why}"
        return Bound(name=NODES, startds=None, because=because)
    more = sum(_growth(pool, nodes.value, demand) for pool in pools.value)
    stale = nodes.stale or pools.stale
    added = f", nodes that may be added {more}" if pools.value else ""
    return Bound(name=NODES, startds=now + more, because=here + added + _age(nodes), stale=stale)


def _growth(pool: NodePool, nodes: Sequence[Node], demand: Demand) -> int:
    if not may_grow(pool, demand):
        return 0
    there = sum(pool.has(node) for node in nodes)
    return max(0, pool.maximum - there) * holds(pool.holds, demand)


def _money(pools: Known[Sequence[NodePool]], demand: Demand, per_hour: float) -> Bound:
    """By the dearest pool that a startd may land on: its part of a node is the largest of its parts of each resource.

    Nodes of no pool are taken to be no dearer than that.
    """

    def bound(startds: int | None, because: str) -> Bound:
        words = f"limits.costPerHour {per_hour:g}, {because}" + _age(pools)
        return Bound(name=COST, startds=startds, because=words, stale=startds is not None and pools.stale)

    if not pools.value:
        return bound(None, f"but prices are unknown: {pools.why or 'the stack names no node pools'}")
    fitting = [pool for pool in pools.value if may_grow(pool, demand) and holds(pool.holds, demand)]
    if not fitting:
        return bound(None, "but the price is unknown: a startd fits into no pool that the stack names")
    prices = []
    for pool in fitting:
        if pool.price is None:
            return bound(None, f"but the price of pool {pool.name} is unknown: set its pricePerHour")
        part = max(each / pool.holds[name] for name, each in demand.requests.items() if each)
        prices.append((part * pool.price, pool.name))
    price, dearest = max(prices)
    if not price:
        return bound(None, "and a startd costs nothing")
    return bound(_fit(per_hour, price), f"a startd costs {price:.4g} on {dearest}")


def _budget(budget: Known[Budget], have: int) -> Bound:
    """Those that are there may stay, whatever they cost: spent money does not come back by killing payloads."""
    if budget.value is None or budget.stale:
        return Bound(name=BUDGET, startds=have, because=f"{budget.why}: no more are made until it does", stale=True)
    if budget.value.over:
        return Bound(name=BUDGET, startds=have, because=f"{budget.value.message}: no more are made, none is stopped")
    return Bound(name=BUDGET, startds=None, because=f"{budget.value.message}: it does not rule")


def _tolerated(taints: Iterable[Taint], demand: Demand) -> bool:
    return all(any(_tolerates(each, taint) for each in demand.tolerations) for taint in taints)


def _tolerates(toleration: Json, taint: Taint) -> bool:
    if toleration.get("effect") not in {None, "", taint.effect}:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in {None, "", taint.key}
    return toleration.get("key") == taint.key and toleration.get("value", "") == taint.value


def _meets(node: Node, term: Json) -> bool:
    labels = [_satisfies(node.labels.get(each.get("key", "")), each) for each in some(term, "matchExpressions")]
    fields = [_satisfies(node.name, each) for each in some(term, "matchFields")]
    return all(labels) and all(fields) and bool(labels or fields)


def _contradicts(pool: NodePool, term: Json) -> bool:
    return any(
        each.get("key") in pool.selector and not _satisfies(pool.selector[each["key"]], each)
        for each in some(term, "matchExpressions")
    )


def _satisfies(actual: str | None, requirement: Json) -> bool:
    """Whether a label, or what stands in its place, is as required; None is that there is none."""
    values = list(requirement.get("values") or ())
    match requirement.get("operator"):
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
            except (ValueError, IndexError, TypeError):
                return False
            return left > right if operator == "Gt" else left < right


def _shown(key: str, amount: float) -> str:
    """An amount as people read it."""
    if key.endswith(("memory", "storage")):
        return f"{amount / GIB:.4g} GiB"
    return f"{amount:g}"


def _age(fact: Known[object]) -> str:
    return f" ({fact.why})" if fact.stale else ""
