"""What the cluster says of the room for startds: nodes, node pools, quotas and limit ranges, as plain values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from services.vacuum.quantities import quantity

# A part of a Kubernetes object, as it is read.
Json = Mapping[str, Any]
Value_co = TypeVar("Value_co", covariant=True)

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
        selector: labels that tell its nodes.
        maximum: of nodes.
        holds: of one node, in cores, bytes and pods.
        price: of one node for an hour; None if the stack does not say.
    """

    name: str
    selector: Mapping[str, str]
    maximum: int
    holds: Amounts
    price: float | None = None

    def has(self, node: Node) -> bool:
        """Whether a node is one of the pool's."""
        return self.selector.items() <= node.labels.items()


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A ResourceQuota of the namespace, by the names of its own that may begin with `requests.` or `limits.`."""

    name: str
    hard: Amounts
    used: Amounts


@dataclass(frozen=True, kw_only=True)
class Range:
    """A LimitRange's largest container or pod."""

    name: str
    kind: str
    most: Amounts


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """All of it."""

    nodes: Known[Sequence[Node]] = Known()
    pools: Known[Sequence[NodePool]] = Known()
    quotas: Known[Sequence[Quota]] = Known()
    ranges: Known[Sequence[Range]] = Known()


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one startd's pod asks for.

    Attributes:
        requests, limits: of all its containers together.
        largest: limit of one container.
        selector: labels that its node must have.
        alternatives: node affinity that is required: terms, one of which must hold, each a list of requirements.
        tolerations: as in the pod's spec.
    """

    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)
    largest: Amounts = field(default_factory=dict)
    selector: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[Json, ...] = ()
    tolerations: tuple[Json, ...] = ()


def demand_of(pod_spec: Json) -> Demand:
    """Of a pod template's spec."""
    boxes = [box.get("resources", {}) for box in pod_spec.get("containers", ())]
    first = [box.get("resources", {}) for box in pod_spec.get("initContainers", ())]
    limits = [_amounts(box.get("limits", {})) for box in boxes]
    requests = [_amounts({**box.get("limits", {}), **box.get("requests", {})}) for box in boxes]
    before = [_amounts({**box.get("limits", {}), **box.get("requests", {})}) for box in first]
    affinity = pod_spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return Demand(
        # Init containers run one after the other, before the others.
        requests={**_largest([_sum(requests), *before]), "pods": 1},
        limits=_largest([_sum(limits), *(_amounts(box.get("limits", {})) for box in first)]),
        largest=_largest([*limits, *(_amounts(box.get("limits", {})) for box in first)]),
        selector=pod_spec.get("nodeSelector", {}),
        alternatives=tuple(required.get("nodeSelectorTerms", ())),
        tolerations=tuple(pod_spec.get("tolerations", ())),
    )


def node_of(raw: Json) -> Node:
    """A node, trimmed."""
    meta, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ()))
    return Node(
        name=meta["name"],
        labels=meta.get("labels", {}),
        taints=tuple(
            Taint(key=each["key"], value=each.get("value", ""), effect=each["effect"])
            for each in spec.get("taints", ())
            if each["effect"] in {"NoSchedule", "NoExecute"}
        ),
        holds=_amounts(status.get("allocatable", {})),
        usable=ready and not spec.get("unschedulable", False),
    )


def quota_of(raw: Json) -> Quota | None:
    """A quota, if it is about startds: they have requests, no deadline and the template's own priority."""
    spec, status = raw.get("spec", {}), raw.get("status", {})
    if {"BestEffort", "Terminating"} & set(spec.get("scopes", ())) or spec.get("scopeSelector"):
        return None
    return Quota(
        name=raw["metadata"]["name"],
        hard={key: float(quantity(amount)) for key, amount in status.get("hard", {}).items()},
        used={key: float(quantity(amount)) for key, amount in status.get("used", {}).items()},
    )


def ranges_of(raw: Json) -> tuple[Range, ...]:
    """The largest container and pod that a LimitRange allows."""
    return tuple(
        Range(name=raw["metadata"]["name"], kind=each["type"], most=_amounts(each["max"]))
        for each in raw.get("spec", {}).get("limits", ())
        if each.get("type") in {"Container", "Pod"} and each.get("max")
    )


def pools_of(entries: Iterable[Json]) -> tuple[NodePool, ...]:
    """The node pools of components/cluster/pools.py, as they stand in the ConfigMap node-pools."""
    return tuple(
        NodePool(
            name=entry["name"],
            selector=entry["selector"],
            maximum=entry["max"],
            holds={
                "cpu": entry["cores"],
                "memory": entry["memoryMib"] * 2**20,
                "ephemeral-storage": entry["diskMib"] * 2**20,
                "pods": math.inf,
            },
            price=entry.get("pricePerHour"),
        )
        for entry in entries
    )


def _amounts(raw: Json) -> dict[str, float]:
    return {name: float(quantity(raw[name])) for name in RESOURCES if name in raw}


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
