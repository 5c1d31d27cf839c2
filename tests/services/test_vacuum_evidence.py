"""Each row of the evidence table decides the case that it is for, in spite of the rows below."""

from dataclasses import replace

import pytest

from services.vacuum.evidence import LOST_SECONDS, ended, outcome
from services.vacuum.model import Class, Message, Pod, Reason, Size, Spec

pytestmark = pytest.mark.fast

SPEC = Spec(template="t", size=Size(), pods=10, fizzle_seconds=900)
NOW = 10_000.0
# It ran for a minute, said nothing and ended with 0: every case below differs from it in what it is about.
SHORT = Pod(
    name="startds-1",
    uid="1",
    sequence=1,
    template="t",
    created=0,
    phase="Succeeded",
    scheduled=1,
    started=2,
    finished=62,
    exit_code=0,
)
LONG = replace(SHORT, finished=2002.0)


def said(code: int, jobs: int | None = None) -> Message:
    return Message(code=code, reason="Said", jobs_started=jobs)


CASES = [
    (
        "we drained it though it worked",
        replace(SHORT, requested=Reason.DRAIN, message=said(200, 3)),
        Class.REQUESTED,
        "Drain",
    ),
    ("we stopped it since it never started", replace(SHORT, requested=Reason.START), Class.SITE_FAULT, "StartError"),
    (
        "no node had room for it",
        replace(SHORT, requested=Reason.CAPACITY, started=None),
        Class.CAPACITY,
        "Unschedulable",
    ),
    (
        "preempted though it said no work",
        replace(SHORT, disruption="PreemptionByScheduler", message=said(300)),
        Class.DISRUPTED,
        "PreemptionByScheduler",
    ),
    (
        "evicted for the node's sake",
        replace(SHORT, disruption="TerminationByKubelet", reason="Evicted"),
        Class.DISRUPTED,
        "TerminationByKubelet",
    ),
    ("its node was shut down", replace(SHORT, phase="Failed", reason="Terminated"), Class.DISRUPTED, "Terminated"),
    ("its node is gone", replace(SHORT, phase="Running", deadline=1.0, finished=None), Class.DISRUPTED, "NodeLost"),
    (
        "evicted for its own excess",
        replace(SHORT, phase="Failed", reason="Evicted", message=said(700)),
        Class.TRANSIENT,
        "Evicted",
    ),
    (
        "out of memory, last words from before",
        replace(LONG, exit_code=137, exit_reason="OOMKilled", message=said(700)),
        Class.SITE_FAULT,
        "OOMKilled",
    ),
    ("somebody deleted it", replace(SHORT, deadline=9000.0, exit_code=137), Class.DISRUPTED, "Deleted"),
    (
        "somebody deleted it and it went as asked",
        replace(SHORT, deadline=9000.0, message=said(100)),
        Class.DISRUPTED,
        "Deleted",
    ),
    (
        "somebody deleted it as it found no work",
        replace(SHORT, deadline=9000.0, message=said(300)),
        Class.NO_WORK,
        "Said",
    ),
    ("worked", replace(SHORT, message=said(200, 3)), Class.WORKED, "Said"),
    ("worked, it says not on what", replace(SHORT, message=said(200)), Class.WORKED, "Said"),
    ("was claimed but never got a payload", replace(SHORT, message=said(200, 0)), Class.NO_WORK, "EmptyPilots"),
    ("asked to stop", replace(SHORT, message=said(100)), Class.REQUESTED, "Said"),
    ("no work", replace(SHORT, message=said(300)), Class.NO_WORK, "Said"),
    ("banned", replace(SHORT, message=said(400)), Class.BANNED, "Said"),
    ("site fault", replace(SHORT, message=said(500)), Class.SITE_FAULT, "Said"),
    ("grid fault", replace(SHORT, message=said(600)), Class.GRID_FAULT, "Said"),
    ("died without saying why", replace(SHORT, message=said(700), exit_code=137), Class.TRANSIENT, "Said"),
    ("no message, but an exit code of the reporter", replace(SHORT, exit_code=6), Class.GRID_FAULT, "ExitCode"),
    ("the image could not be run", replace(SHORT, started=None, exit_code=128), Class.SITE_FAULT, "StartError"),
    ("left at once without a word", SHORT, Class.NO_WORK, "Fizzle"),
    ("lived long and left in peace", LONG, Class.WORKED, "LongLived"),
    ("lived long and died", replace(LONG, exit_code=1), Class.TRANSIENT, "Died"),
]


@pytest.mark.parametrize(("pod", "what", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_evidence_tells(pod: Pod, what: Class, reason: str) -> None:
    assert ended(pod, NOW)
    result = outcome(pod, SPEC, draining=False, now=NOW)
    assert (result.what, result.reason) == (what, reason)


def test_a_pod_that_the_garbage_collector_takes_with_its_set_was_asked_to_stop() -> None:
    pod = replace(SHORT, deadline=9000.0, exit_code=143)
    assert outcome(pod, SPEC, draining=True, now=NOW).what is Class.REQUESTED


def test_an_exit_code_of_nought_proves_nothing() -> None:
    assert outcome(SHORT, SPEC, draining=False, now=NOW).what is not Class.WORKED


@pytest.mark.parametrize(
    ("pod", "over"),
    [
        (replace(SHORT, phase="Running"), False),
        (replace(SHORT, phase="Failed"), True),
        (replace(SHORT, phase="Pending", deadline=NOW, scheduled=None), True),
        (replace(SHORT, phase="Running", deadline=NOW - LOST_SECONDS + 1), False),
        (replace(SHORT, phase="Running", deadline=NOW - LOST_SECONDS - 1), True),
    ],
    ids=["runs", "failed", "deleted before it had a node", "is given time to end", "is on a node that is gone"],
)
def test_a_pod_has_ended_when_it_takes_nothing_any_more(*, pod: Pod, over: bool) -> None:
    assert ended(pod, NOW) is over
