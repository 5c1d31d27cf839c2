"""Between the API server's JSON and the model: sets and pods as read, statuses and pods as written."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence

from services.kube import Json
from services.times import seconds, timestamp
from services.vacuum.limits import BUDGET
from services.vacuum.model import (
    GROUP,
    LIFETIME_ANNOTATION,
    OUTCOME_FINALIZER,
    REQUESTED_ANNOTATION,
    SET_LABEL,
    TEMPLATE_LABEL,
    Blamed,
    Bound,
    Circuit,
    Class,
    Count,
    Create,
    DeletionPolicy,
    DrainMode,
    Message,
    NodeMemory,
    Outcome,
    Pod,
    Size,
    Spec,
    State,
    Status,
    UpdatePolicy,
    Usage,
)
from services.vacuum.quantities import quantity

STARTD = "startd"
WITHIN_BUDGET = "WithinBudget"
MIB = 1 << 20
# What each state means for the two conditions; a set that backs off is as ready as one that is full.
_READY = {State.BLIND: "Unknown", State.INVALID: "False", State.DRAINING: "False"}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PROGRESSING = frozenset({State.RAMPING, State.PROBING, State.DRAINING})


def template_hash(template: Json) -> str:
    """A name for what a pod template says; another template has another."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def spec_of(startdset: Json) -> Spec:
    """What a StartdSet asks for; defaults are filled in by its schema."""
    spec = startdset["spec"]
    limits = spec["limits"]
    return Spec(
        template=template_hash(spec["template"]),
        size=_size(spec["template"]["spec"]),
        pods=limits["pods"],
        millicores=limits["cores"] * 1000 if "cores" in limits else None,
        memory_mib=limits.get("memoryMib"),
        cost_per_hour=float(limits["costPerHour"]) if "costPerHour" in limits else None,
        weight=spec["share"]["weight"],
        floor=spec["share"]["floor"],
        window_initial=spec["window"]["initial"],
        window_growth=spec["window"]["growth"],
        window_maximum=spec["window"].get("maximum"),
        backoff_base=spec["backoff"]["baseSeconds"],
        backoff_cap=spec["backoff"]["capSeconds"],
        fizzle_seconds=spec["fizzleSeconds"],
        start_seconds=spec["startSeconds"],
        drain_seconds=spec["drain"]["seconds"],
        drain_mode=DrainMode(spec["drain"]["mode"]),
        update=UpdatePolicy(spec["update"]),
        deletion=DeletionPolicy(spec["deletionPolicy"]),
        lifetime=spec.get("lifetimeSeconds"),
    )


def _size(pod_spec: Json) -> Size:
    startd: Json = next((box for box in pod_spec.get("containers", ()) if box["name"] == STARTD), {})
    limits = startd.get("resources", {}).get("limits", {})
    return Size(
        millicores=int(quantity(limits.get("cpu", 0)) * 1000), memory_mib=int(quantity(limits.get("memory", 0)) / MIB)
    )


def message_of(text: str) -> Message | None:
    """The reporter's last word: `CODE text`, on the next line JSON; None if it is not one."""
    first, _, rest = text.partition("\n")
    parts = re.fullmatch(r"([1-7][0-9]{2})\b\s*(.*)", first.strip())
    if parts is None:
        return None
    try:
        more = json.loads(rest.partition("\n")[0])
    except ValueError:
        more = {}
    if not isinstance(more, dict):
        more = {}
    jobs = _number(more.get("jobsStarted"))
    return Message(
        code=int(parts[1]),
        reason=str(more.get("reason") or parts[2] or parts[1])[:64],
        jobs_started=None if jobs is None else int(jobs),
        retry_after=_number(more.get("retryAfterSeconds")),
        busy_seconds=_number(more.get("busySeconds")) or 0,
        lost_seconds=_number(more.get("lostWorkSeconds")) or 0,
        cpu_seconds=_number(more.get("cpuSeconds")) or 0,
    )


def _number(said: object) -> float | None:
    """A number that a payload could have forged: believed only if it is one, and not a negative one."""
    if isinstance(said, bool) or not isinstance(said, int | float):
        return None
    return float(said) if 0 <= said < math.inf else None


def pod_of(raw: Json) -> Pod:
    """A startd's pod, trimmed to what a decision needs."""
    meta, status = raw["metadata"], raw.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    placed, ready, disruption = (conditions.get(name, {}) for name in ("PodScheduled", "Ready", "DisruptionTarget"))
    startd: Json = next((box for box in status.get("containerStatuses", ()) if box["name"] == STARTD), {})
    state = startd.get("state", {})
    last = state.get("terminated") or _failed_init(status.get("initContainerStatuses", ())) or {}
    number = meta["name"].rpartition("-")[2]
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        version=meta["resourceVersion"],
        finalizers=tuple(meta.get("finalizers", ())),
        sequence=int(number) if number.isdecimal() else 0,
        template=meta.get("labels", {}).get(TEMPLATE_LABEL, ""),
        size=_size(raw["spec"]),
        created=seconds(meta["creationTimestamp"]) or 0.0,
        phase=status.get("phase", "Pending"),
        reason=status.get("reason", ""),
        deadline=seconds(meta.get("deletionTimestamp")),
        requested=meta.get("annotations", {}).get(REQUESTED_ANNOTATION),
        node=raw["spec"].get("nodeName", ""),
        scheduled=seconds(placed.get("lastTransitionTime")) if placed.get("status") == "True" else None,
        unschedulable=placed.get("status") == "False" and placed.get("reason") == "Unschedulable",
        disruption=disruption.get("reason") if disruption.get("status") == "True" else None,
        started=seconds((state.get("terminated") or state.get("running") or {}).get("startedAt")),
        finished=seconds(last.get("finishedAt")),
        ready=seconds(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
        exit_code=last.get("exitCode"),
        exit_reason=last.get("reason", ""),
        message=message_of(last.get("message", "")),
    )


def _failed_init(statuses: Iterable[Json]) -> Json | None:
    ends = (status.get("state", {}).get("terminated") for status in statuses)
    return next((end for end in ends if end and end["exitCode"] != 0), None)


def new_pod(startdset: Json, action: Create) -> Json:
    """The pod of a number, as it is sent to the API server."""
    meta, template = startdset["metadata"], startdset["spec"]["template"]
    given = template.get("metadata", {})
    annotations = dict(given.get("annotations", {}))
    if action.lifetime is not None:
        annotations[LIFETIME_ANNOTATION] = str(action.lifetime)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name']}-{action.sequence}",
            "namespace": meta["namespace"],
            "labels": {
                **given.get("labels", {}),
                SET_LABEL: meta["name"],
                TEMPLATE_LABEL: template_hash(template),
            },
            "annotations": annotations,
            "finalizers": [OUTCOME_FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": startdset["apiVersion"],
                    "kind": startdset["kind"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": _avoiding(template["spec"], action.avoid),
    }


def _avoiding(pod_spec: Json, nodes: Sequence[str]) -> Json:
    """The pod's spec with nodes that it must not land on.

    By the nodes' own names, since their label `hostname` may say something else; such a requirement takes one name.
    Terms of an affinity are alternatives, so that each of them gets all names.
    """
    if not nodes:
        return pod_spec
    others = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in nodes]
    affinity = pod_spec.get("affinity", {})
    placement = affinity.get("nodeAffinity", {})
    terms = placement.get(_REQUIRED, {}).get("nodeSelectorTerms") or [{}]
    terms = [{**term, "matchFields": [*term.get("matchFields", ()), *others]} for term in terms]
    placement = {**placement, _REQUIRED: {"nodeSelectorTerms": terms}}
    return {**pod_spec, "affinity": {**affinity, "nodeAffinity": placement}}


def status_of(startdset: Json) -> Status:
    """What the controller wrote last; all zero for a new set."""
    raw = startdset.get("status", {})
    circuit, startds = raw.get("circuit", {}), raw.get("startds", {})
    return Status(
        generation=raw.get("observedGeneration", 0),
        template=raw.get("template", ""),
        sequence=raw.get("sequence", 0),
        creating=tuple(raw.get("creating", ())),
        proven=tuple(raw.get("proven", ())),
        uncounted=tuple((entry["uid"], entry["name"]) for entry in raw.get("uncounted", ())),
        window=raw.get("window", 0),
        owed=raw.get("owed", 0),
        cut=raw.get("cut", 0),
        failures=raw.get("failures", 0),
        circuit=Circuit(circuit.get("state", Circuit.CLOSED)),
        level=circuit.get("level", 0),
        until=seconds(circuit.get("until")),
        outcomes={Class(name): number for name, number in raw.get("outcomes", {}).items()},
        usage=_usage_of(raw.get("coreSeconds", {})),
        recent=tuple(_outcome_of(entry) for entry in raw.get("recent", ())),
        startds=Count(**{name: startds.get(name, 0) for name in ("total", "running", "unproven", "proven")}),
        nodes=tuple(_node_of(entry) for entry in raw.get("nodes", ())),
        blamed=tuple(_blamed_of(entry) for entry in raw.get("blamedNodes", ())),
        bounds=tuple(_bound_of(entry) for entry in raw.get("bounds", ())),
        limit=raw.get("limit", 0),
        state=State(raw.get("state", State.STEADY)),
        message=raw.get("message", ""),
    )


def _usage_of(raw: Json) -> Usage:
    held = {Class(name): number for name, number in raw.get("held", {}).items()}
    return Usage(held=held, busy=raw.get("busy", 0), lost=raw.get("lost", 0), cpu=raw.get("cpu", 0))


def _node_of(entry: Json) -> NodeMemory:
    return NodeMemory(
        name=entry["name"],
        recent=entry["recent"],
        at=seconds(entry["at"]) or 0.0,
        until=seconds(entry.get("until")),
        level=entry["level"],
        reason=entry["reason"],
    )


def _blamed_of(entry: Json) -> Blamed:
    return Blamed(
        name=entry["name"], until=seconds(entry["until"]) or 0.0, level=entry["level"], reason=entry["reason"]
    )


def _bound_of(entry: Json) -> Bound:
    return Bound(
        name=entry["name"],
        startds=entry.get("startds"),
        because=entry["because"],
        stale=entry.get("stale", False),
    )


def _outcome_of(entry: Json) -> Outcome:
    return Outcome(
        name=entry["name"],
        what=Class(entry["class"]),
        reason=entry["reason"],
        code=entry.get("code"),
        at=seconds(entry["at"]) or 0.0,
        seconds=entry["seconds"],
        node=entry["node"],
    )


def status_json(status: Status, before: Json, now: float) -> Json:
    """A status as it is written.

    Args:
        status: what to write.
        before: what stands there, from which the conditions take the time of their last change.
        now: POSIX seconds.
    """
    circuit: Json = {"state": status.circuit, "level": status.level}
    if status.until is not None:
        circuit["until"] = timestamp(status.until)
    result: Json = {
        "observedGeneration": status.generation,
        "state": status.state,
        "message": status.message,
        "limit": status.limit,
        "startds": {
            "total": status.startds.total,
            "running": status.startds.running,
            "unproven": status.startds.unproven,
            "proven": status.startds.proven,
        },
        "template": status.template,
        "sequence": status.sequence,
        "creating": list(status.creating),
        "proven": list(status.proven),
        "uncounted": [{"uid": uid, "name": name} for uid, name in status.uncounted],
        "window": status.window,
        "owed": status.owed,
        "cut": status.cut,
        "failures": status.failures,
        "circuit": circuit,
        "outcomes": {str(name): number for name, number in status.outcomes.items()},
        "coreSeconds": {
            "held": {str(name): number for name, number in status.usage.held.items()},
            "busy": status.usage.busy,
            "lost": status.usage.lost,
            "cpu": status.usage.cpu,
        },
        "nodes": [
            {
                "name": node.name,
                "recent": node.recent,
                "at": timestamp(node.at),
                "level": node.level,
                "reason": node.reason,
                **({} if node.until is None else {"until": timestamp(node.until)}),
            }
            for node in status.nodes
        ],
        "blamedNodes": [
            {"name": node.name, "until": timestamp(node.until), "level": node.level, "reason": node.reason}
            for node in status.blamed
        ],
        "bounds": [
            {
                "name": bound.name,
                "because": bound.because,
                **({} if bound.startds is None else {"startds": bound.startds}),
                **({"stale": True} if bound.stale else {}),
            }
            for bound in status.bounds
        ],
        "recent": [
            {
                "name": result.name,
                "class": str(result.what),
                "reason": result.reason,
                **({"code": result.code} if result.code is not None else {}),
                "at": timestamp(result.at),
                "seconds": int(result.seconds),
                "node": result.node,
            }
            for result in status.recent
        ],
    }
    if status.recent:
        result["last"] = str(status.recent[0].what)
    old = {condition["type"]: condition for condition in before.get("conditions", ())}
    progressing = "True" if status.state in _PROGRESSING else "False"
    result["conditions"] = [
        _condition(old.get(name, {}), name, truth, status, now)
        for name, truth in (("Ready", _READY.get(status.state, "True")), ("Progressing", progressing))
    ]
    budget = next((bound for bound in status.bounds if bound.name == BUDGET), None)
    if budget is not None:
        truth, reason = _within(budget)
        result["conditions"].append(
            {**_condition(old.get(WITHIN_BUDGET, {}), WITHIN_BUDGET, truth, status, now), "reason": reason}
            | {"message": budget.because}
        )
    return result


def _within(budget: Bound) -> tuple[str, str]:
    """Whether the budget lets startds be made, and the word for it."""
    if budget.stale:
        return "Unknown", "BudgetStale"
    return ("True", "WithinBudget") if budget.startds is None else ("False", "OverBudget")


def _condition(old: Json, name: str, truth: str, status: Status, now: float) -> Json:
    since = old["lastTransitionTime"] if old.get("status") == truth else timestamp(now)
    return {
        "type": name,
        "status": truth,
        "reason": str(status.state),
        "message": status.message,
        "observedGeneration": status.generation,
        "lastTransitionTime": since,
    }


def sets_path(namespace: str, name: str = "") -> str:
    """Where the API server has the StartdSets of a namespace, or one of them."""
    path = f"/apis/{GROUP}/v1alpha1/namespaces/{namespace}/startdsets"
    return f"{path}/{name}" if name else path


def pods_path(namespace: str, name: str = "") -> str:
    """Where the API server has the pods of a namespace, or one of them."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return f"{path}/{name}" if name else path
