"""Nodes and StartdSets as the API server has them, and what is written to a node."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.kube import Json
from services.nodehealth.model import (
    BLACK_HOLE,
    CVMFS,
    HELD_ANNOTATION,
    LEAVE_ANNOTATION,
    OURS,
    Action,
    Cordon,
    Fault,
    Held,
    Node,
    Sign,
)
from services.times import seconds
from services.vacuum.cluster import UNHEALTHY, Node as Labelled, NodePool

# Our monitor writes at least every MONITOR_SECONDS, as node-problem-detector does: there may be thousands of nodes.
# After three times that nothing is known of the node.
MONITOR_SECONDS = 300.0
SILENT_SECONDS = 3 * MONITOR_SECONDS
# What others say of a node, and how long it must hold before it counts, in seconds. The kubelet makes room by itself
# when the disk is full; the rest is node-problem-detector's (AKS, GKE), which has been patient already.
FOREIGN: Mapping[str, float] = {
    "DiskPressure": 900.0,
    "KernelDeadlock": 60.0,
    "ReadonlyFilesystem": 60.0,
    "FilesystemCorruptionProblem": 60.0,
    "XfsShutdown": 60.0,
    "CperHardwareErrorFatal": 60.0,
    "FrequentUnregisterNetDevice": 60.0,
    "FrequentContainerdRestart": 300.0,
    "FrequentKubeletRestart": 300.0,
    "KubeletProblem": 300.0,
    "ContainerRuntimeProblem": 300.0,
}
# Nodes without startds.
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# The pool of all nodes, where the stack names none.
ALL = "all"

Blame = Mapping[str, float]


def pool_of(labels: Mapping[str, str], pools: Sequence[NodePool] | None) -> str | None:
    """The pool that a node is of and that is looked after; None if it is of none."""
    if pools is None:
        return None if CONTROL_PLANE in labels else ALL
    node = Labelled(name="", labels=labels)
    # What is to go anyway goes by itself.
    return next((pool.name for pool in pools if pool.has(node) and not pool.retiring), None)


def trimmed(raw: Json) -> Json:
    """What is kept of a node."""
    meta, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    kept = OURS | FOREIGN.keys() | {"Ready"}
    annotations = meta.get("annotations", {})
    return {
        "name": meta["name"],
        "version": meta["resourceVersion"],
        "labels": meta.get("labels", {}),
        "annotations": {key: annotations[key] for key in (HELD_ANNOTATION, LEAVE_ANNOTATION) if key in annotations},
        "unschedulable": bool(spec.get("unschedulable", False)),
        "taints": spec.get("taints", []),
        "conditions": [each for each in status.get("conditions", ()) if each["type"] in kept],
    }


def node_of(kept: Json, pool: str, blame: Blame, now: float) -> Node:
    """A node, judged by what it and others say of it.

    Args:
        kept: as `trimmed` gave it.
        pool: that it is of.
        blame: until when StartdSets blame a node, by its name.
        now: POSIX seconds.
    """
    conditions = {each["type"]: each for each in kept["conditions"]}
    heard = [seconds(conditions[kind].get("lastHeartbeatTime")) or 0.0 for kind in OURS if kind in conditions]
    blind = not heard or now - max(heard) > SILENT_SECONDS
    signs = [_ours(kind) for kind in sorted(OURS) if not blind and _true(conditions.get(kind))]
    for kind, patience in FOREIGN.items():
        since = seconds(conditions.get(kind, {}).get("lastTransitionTime")) or 0.0
        if _true(conditions.get(kind)) and now - since >= patience:
            signs.append(Sign(kind=kind, fault=Fault.OWN))
    if (until := blame.get(kept["name"], 0.0)) > now:
        signs.append(Sign(kind=BLACK_HOLE, fault=Fault.SHARED, until=until))
    return Node(
        name=kept["name"],
        pool=pool,
        version=kept["version"],
        ready=_true(conditions.get("Ready")),
        unschedulable=kept["unschedulable"],
        left=kept["annotations"].get(LEAVE_ANNOTATION) == "true",
        blind=blind,
        signs=tuple(signs),
        held=_held(kept["annotations"].get(HELD_ANNOTATION), now),
        taints=tuple(kept["taints"]),
    )


def _ours(kind: str) -> Sign:
    return Sign(kind=kind, fault=Fault.SHARED if kind == CVMFS else Fault.OWN)


def _true(condition: Json | None) -> bool:
    return condition is not None and condition["status"] == "True"


def _held(text: str | None, now: float) -> Held | None:
    """What we wrote; if somebody made something else of it, that we hold the node and may give it back."""
    if text is None:
        return None
    try:
        said = json.loads(text)
        return Held(why=str(said["why"]), since=float(said["since"]), until=float(said["until"]))
    except (KeyError, TypeError, ValueError):
        return Held(why="unknown", since=now, until=now)


def patch_of(action: Action) -> Json:
    """What is merged into the node; refused if the node is not what it was when that was decided."""
    node = action.node
    others = [taint for taint in node.taints if taint["key"] != UNHEALTHY]
    if isinstance(action, Cordon):
        held: dict[str, Any] = {"why": action.held.why, "since": action.held.since, "until": action.held.until}
        taint = {"key": UNHEALTHY, "value": action.held.why, "effect": "NoSchedule"}
        return _merge(node, json.dumps(held), unschedulable=True, taints=[*others, taint])
    # The taint of a cordoned node is taken off by Kubernetes itself.
    return _merge(node, None, unschedulable=None, taints=others)


def _merge(node: Node, held: str | None, *, unschedulable: bool | None, taints: list[Mapping[str, Any]]) -> Json:
    return {
        "metadata": {"resourceVersion": node.version, "annotations": {HELD_ANNOTATION: held}},
        "spec": {"unschedulable": unschedulable, "taints": taints or None},
    }


def blame_of(sets: Iterable[Json]) -> Blame:
    """Until when StartdSets blame each node, by its name."""
    blame: dict[str, float] = {}
    for startdset in sets:
        for entry in startdset.get("status", {}).get("blamedNodes", ()):
            name = entry["name"]
            blame[name] = max(blame.get(name, 0.0), seconds(entry["until"]) or 0.0)
    return blame
