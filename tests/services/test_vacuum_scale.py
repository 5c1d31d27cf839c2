"""The parts of the scale benchmark that need no control plane: what it sees, and what its fake nodes say."""

import json
import re
from pathlib import Path

import pytest
import yaml

from benchmarks.vacuum_scale import objects
from benchmarks.vacuum_scale.counts import CALLS
from benchmarks.vacuum_scale.observer import Observer
from benchmarks.vacuum_scale.plane import STAGES, Plane
from services.vacuum.evidence import outcome
from services.vacuum.model import Class, Create
from services.vacuum.objects import new_pod, pod_of, spec_of

pytestmark = pytest.mark.fast

DEFAULTED = {
    "share": {"weight": 1, "floor": 0},
    "window": {"initial": 5, "growth": 4, "maximum": 5},
    "backoff": {"baseSeconds": 600, "capSeconds": 3600},
    "fizzleSeconds": 900,
    "startSeconds": 900,
    "drain": {"seconds": 60, "mode": "Graceful"},
    "update": "OnFinish",
    "deletionPolicy": "Drain",
}


def test_what_a_fake_node_ends_a_startd_with_is_read_as_worked() -> None:
    stages = [each for each in yaml.safe_load_all(STAGES.read_text()) if each["kind"] == "Stage"]
    [worked] = [
        stage["spec"]["next"]["statusTemplate"] for stage in stages if stage["metadata"]["name"] == "pod-worked"
    ]
    message = re.search(r"message: (\".*\")", worked)
    assert message is not None
    startdset = objects.startdset(5, 5)
    startdset["metadata"].update(namespace=objects.NAMESPACE, uid="u")
    startdset["spec"] |= DEFAULTED
    terminated = {
        "exitCode": 0,
        "startedAt": "2026-11-26T12:00:00Z",
        "finishedAt": "2026-11-26T12:00:01Z",
        "message": yaml.safe_load(message[1]),
    }
    pod = new_pod(startdset, Create(sequence=1))
    pod["metadata"].update(uid="p", resourceVersion="1", creationTimestamp="2026-11-26T12:00:00Z")
    pod["status"] = {
        "phase": "Succeeded",
        "containerStatuses": [{"name": "startd", "state": {"terminated": terminated}}],
    }
    result = outcome(pod_of(pod), spec_of(startdset), draining=False, now=0)
    assert (result.what, result.code) == (Class.WORKED, 200)


def test_the_observer_counts_what_lives_and_what_runs() -> None:
    observer = Observer(Plane(directory=Path(), programs={}, port=0))

    def tell(kind: str, name: str, phase: str, now: float) -> None:
        pod = {"kind": "Pod", "metadata": {"name": name}, "spec": {}, "status": {"phase": phase}}
        observer._take(json.dumps({"type": kind, "object": pod}, separators=(",", ":")).encode(), now)

    tell("ADDED", "a", "Pending", 1)
    tell("ADDED", "b", "Pending", 2)
    tell("MODIFIED", "a", "Running", 3)
    assert (observer.alive, observer.running) == (2, 1)
    tell("MODIFIED", "a", "Succeeded", 4)
    tell("DELETED", "a", "Succeeded", 5)
    assert (observer.alive, observer.running) == (1, 0)
    assert (observer.made["a"], observer.ran["a"], observer.ended["a"]) == (1, 3, 4)


def test_calls_are_told_apart_by_who_made_them() -> None:
    line = (
        'apiserver_flowcontrol_dispatched_requests_total{flow_schema="subject",priority_level="workload-high"} 1.2e+03'
    )
    assert CALLS.findall(line) == [("subject", "1.2e+03")]
