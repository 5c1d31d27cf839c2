"""What the cluster says of the room for startds: nodes, node pools, quotas and limit ranges, as plain values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from services.times import seconds
from services.vacuum.quantities import quantity

# A part of a Kubernetes object, as it is read.
Json = Mapping[str, Any]
Value_co = TypeVar("Value_co", covariant=True)

# The taint of nodes that services/nodehealth has taken out of use: startds there take no more jobs and go after the
# last one.
UNHEALTHY = "nodehealth.atlas-sites.io/unhealthy"
# What is counted, by the names that Kubernetes gives it.
RESOURCES = ("cpu", "memory", "ephemeral-storage", "pods")
Amounts = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Known(Generic[Value_co]):
    """A fact that may be missing or old.

    Attributes:
        value: None if nobody knows.
        stale: it has not been confirmed for longer than it is good for.
        why: it is missing or stale.
    """

    value: Value_co | None = None
    stale: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Taint:
    """What keeps pods off a node unless they tolerate it."""

    key: str
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node.

    Attributes:
        holds: what pods may request of it, in cores, bytes and pods.
        usable: it is Ready and takes new pods.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    holds: Amounts = field(default_factory=dict)
    usable: bool = True


@dataclass(frozen=True, kw_only=True)
class NodePool:
    """Nodes of one shape that an autoscaler adds, as the stack wrote it.

    Attributes:
        selector: labels that tell its nodes; they may bear others.
        maximum: of nodes.
        holds: of one node, in cores, bytes and pods.
        taints: of its nodes.
        price: of one node for an hour; None if the stack does not say.
        retiring: it is to become empty, and then to go.
    """

    name: str
    selector: Mapping[str, str]
    maximum: int
    holds: Amounts
    taints: tuple[Taint, ...] = ()
    price: float | None = None
    retiring: bool = False

    def has(self, node: Node) -> bool:
        """Whether a node is one of the pool's."""
        return self.selector.items() <= node.labels.items()


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A ResourceQuota of the namespace.

    Attributes:
        hard, used: by names that may begin with `requests.` or `limits.`.
        scopes: requirements that the pods which it counts meet, as in its scopeSelector.
    """

    name: str
    hard: Amounts
    used: Amounts
    scopes: tuple[Json, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Range:
    """What a LimitRange allows of one kind.

    Attributes:
        kind: Container or Pod.
        most: its limits.
        ratio: the most that a limit may be, in parts of the request.
    """

    name: str
    kind: str
    most: Amounts = field(default_factory=dict)
    ratio: Amounts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the accounting says of the site's money.

    Attributes:
        over: it is spent.
        message: with the amounts.
        until: when that is known no longer, POSIX seconds.
    """

    over: bool
    message: str
    until: float


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """All of it; without a budget, money is no matter."""

    nodes: Known[Sequence[Node]] = Known()
    pools: Known[Sequence[NodePool]] = Known()
    quotas: Known[Sequence[Quota]] = Known()
    ranges: Known[Sequence[Range]] = Known()
    budget: Known[Budget] | None = None


def retiring(cluster: Cluster) -> frozenset[str]:
    """The names of nodes that are to become empty: of retiring pools, and unhealthy ones.

    On an old view nobody is sent away.
    """
    if cluster.nodes.stale or cluster.pools.stale:
        return frozenset()
    going = [pool for pool in cluster.pools.value or () if pool.retiring]
    return frozenset(
        node.name
        for node in cluster.nodes.value or ()
        if any(pool.has(node) for pool in going) or any(taint.key == UNHEALTHY for taint in node.taints)
    )


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one startd's pod asks for.

    Attributes:
        requests, limits: of all its containers together.
        largest: limit of one container.
        steepest: limit of one container, in parts of its request.
        selector: labels that its node must have.
        alternatives: node affinity that is required: terms, one of which must hold, each a list of requirements.
        tolerations: as in the pod's spec.
        priority: the name of its priority class, if the template has one.
        deadline: it has a time after which Kubernetes ends it.
    """

    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)
    largest: Amounts = field(default_factory=dict)
    steepest: Amounts = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[Json, ...] = ()
    tolerations: tuple[Json, ...] = ()
    priority: str | None = None
    deadline: bool = False

    @property
    def best_effort(self) -> bool:
        """Whether it asks for nothing that a node would keep for it."""
        return not any(self.requests.get(name) for name in ("cpu", "memory"))


def demand_of(pod_spec: Json) -> Demand:
    """Of a pod template's spec. What is malformed in it counts as not asked for: the API server will say what is."""
    beside, first = ([_box(each) for each in some(pod_spec, key)] for key in ("containers", "initContainers"))
    boxes = [*beside, *first]
    required = one(one(one(pod_spec, "affinity"), "nodeAffinity"), "requiredDuringSchedulingIgnoredDuringExecution")
    return Demand(
        requests={**_together([b.requests for b in beside], [(b.requests, b.stays) for b in first]), "pods": 1},
        limits=_together([b.limits for b in beside], [(b.limits, b.stays) for b in first]),
        largest=_largest(box.limits for box in boxes),
        steepest=_largest(_ratios(box.limits, box.requests) for box in boxes),
        selector=one(pod_spec, "nodeSelector"),
        alternatives=some(required, "nodeSelectorTerms"),
        tolerations=some(pod_spec, "tolerations"),
        priority=pod_spec.get("priorityClassName") or None,
        deadline="activeDeadlineSeconds" in pod_spec,
    )


def one(raw: Json, key: str) -> Json:
    """What should be an object; empty if it is none."""
    found = raw.get(key)
    return found if isinstance(found, Mapping) else {}


def some(raw: Json, key: str) -> tuple[Json, ...]:
    """The objects in what should be a list of them."""
    found = raw.get(key)
    return tuple(each for each in found if isinstance(each, Mapping)) if isinstance(found, list) else ()


def node_of(raw: Json) -> Node:
    """A node, trimmed."""
    meta, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))
    return Node(
        name=meta["name"],
        labels=meta.get("labels", {}),
        taints=_taints(spec.get("taints", ())),
        holds=_amounts(status.get("allocatable", {})),
        usable=ready and not spec.get("unschedulable", False),
    )


def quota_of(raw: Json) -> Quota:
    """A quota, trimmed."""
    spec, status = raw.get("spec", {}), raw.get("status", {})
    selected = spec.get("scopeSelector", {}).get("matchExpressions", ())
    return Quota(
        name=raw["metadata"]["name"],
        hard={key: float(quantity(amount)) for key, amount in status.get("hard", {}).items()},
        used={key: float(quantity(amount)) for key, amount in status.get("used", {}).items()},
        scopes=(*({"scopeName": name, "operator": "Exists"} for name in spec.get("scopes", ())), *selected),
    )


def ranges_of(raw: Json) -> tuple[Range, ...]:
    """What a LimitRange says of containers and pods."""
    return tuple(
        Range(
            name=raw["metadata"]["name"],
            kind=each["type"],
            most=_amounts(each.get("max", {})),
            ratio=_amounts(each.get("maxLimitRequestRatio", {})),
        )
        for each in raw.get("spec", {}).get("limits", ())
        if each.get("type") in {"Container", "Pod"}
    )


def pools_of(entries: Sequence[Json]) -> tuple[NodePool, ...]:
    """The node pools of components/cluster/pools.py, as they stand in the ConfigMap node-pools.

    Raises:
        ValueError: an entry is not what it should be; with its name or number and what is wrong.
    """
    if not isinstance(entries, list):
        raise ValueError("it is not a list")  # noqa: TRY004  for the caller what is in a file has no types
    return tuple(_pool(number, entry) for number, entry in enumerate(entries))


def budget_of(raw: object) -> Budget:
    """The verdict of services/accounting/budget.py, as it stands in the ConfigMap budget.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(raw, Mapping) or not isinstance(raw.get("over"), bool) or not isinstance(raw.get("until"), str):
        raise ValueError("it lacks what it should say")  # noqa: TRY004  for the caller what is in a file has no types
    until = seconds(raw["until"])
    if until is None:
        raise ValueError("it has no end")
    return Budget(over=raw["over"], message=str(raw.get("message", "")), until=until)


def _pool(number: int, entry: Json) -> NodePool:
    try:
        pool = NodePool(
            name=str(entry["name"]),
            selector=dict(entry["selector"]),
            maximum=int(entry["max"]),
            holds={
                "cpu": float(entry["cores"]),
                "memory": float(entry["memoryMib"]) * 2**20,
                "ephemeral-storage": float(entry["diskMib"]) * 2**20,
                "pods": float(entry["pods"]),
            },
            taints=_taints(entry.get("taints", ())),
            price=None if entry.get("pricePerHour") is None else float(entry["pricePerHour"]),
            retiring=bool(entry.get("retiring", False)),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"pool {number} cannot be read ({type(error).__name__}: {error})") from error
    if not pool.selector:
        raise ValueError(f"pool {pool.name} has no selector")
    if not all(0 <= number < math.inf for number in (pool.maximum, *pool.holds.values(), pool.price or 0)):
        raise ValueError(f"pool {pool.name} has a number that is negative or without end")
    return pool


def _taints(raw: Iterable[Json]) -> tuple[Taint, ...]:
    """Those that keep pods off; the scheduler only prefers other nodes to those that PreferNoSchedule is on."""
    return tuple(
        Taint(key=each["key"], value=each.get("value", ""), effect=each["effect"])
        for each in raw
        if each["effect"] in {"NoSchedule", "NoExecute"}
    )


@dataclass(frozen=True, kw_only=True)
class _Box:
    """What one container asks for; an init container that stays runs beside the others to the end."""

    requests: Amounts
    limits: Amounts
    stays: bool


def _box(container: Json) -> _Box:
    resources = one(container, "resources")
    limits, requests = one(resources, "limits"), one(resources, "requests")
    return _Box(
        requests=_amounts({**limits, **requests}),
        limits=_amounts(limits),
        stays=container.get("restartPolicy") == "Always",
    )


def _together(beside: Iterable[Amounts], first: Iterable[tuple[Amounts, bool]]) -> dict[str, float]:
    """The most that a pod takes at once: init containers run one after the other, then the others side by side."""
    staying: list[Amounts] = []
    peaks: list[Amounts] = []
    for amounts, stays in first:
        if stays:
            staying.append(amounts)
        peaks.append(_sum([*staying, *([] if stays else [amounts])]))
    return _largest([*peaks, _sum([*staying, *beside])])


def _ratios(limits: Amounts, requests: Amounts) -> dict[str, float]:
    return {name: limit / requests[name] for name, limit in limits.items() if requests.get(name)}


def _amounts(raw: Json) -> dict[str, float]:
    amounts = {}
    for name in RESOURCES:
        if name in raw:
            with suppress(ValueError):
                amounts[name] = float(quantity(raw[name]))
    return amounts


def _sum(amounts: Iterable[Amounts]) -> dict[str, float]:
    total: dict[str, float] = {}
    for each in amounts:
        for name, amount in each.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def _largest(amounts: Iterable[Amounts]) -> dict[str, float]:
    most: dict[str, float] = {}
    for each in amounts:
        for name, amount in each.items():
            most[name] = max(most.get(name, 0.0), amount)
    return most
