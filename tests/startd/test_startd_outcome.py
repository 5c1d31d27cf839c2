"""Each row of the reporter's table decides the case that it is for, and the vacuum controller reads it so."""

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st
from reporter.codes import Code
from reporter.jobs import End, Job
from reporter.leaving import Why
from reporter.message import Message
from reporter.outcome import FIZZLE_SECONDS, PILOT, Evidence, jobs_fail, outcome
from reporter.pool import Refusal

from services.vacuum import objects
from services.vacuum.evidence import BY_EXIT_CODE, BY_HUNDREDS
from services.vacuum.model import Class

pytestmark = pytest.mark.fast

# The pool knew it, nobody claimed it, it left: each case differs in what it is about.
SEEN = Evidence(
    why=None, ended=0, known=True, refusal=None, claims=0, started=0, jobs=(), waited_seconds=600
)  # fmt: skip
REFUSAL = Refusal(code=Code.BANNED, reason="NotAuthorized", sentence="no")


def job(code: int | None, seconds: float = 10, payloads: int | None = None, end: End = End.EXIT) -> Job:
    return Job(end=end, exit_code=code, seconds=seconds, payloads=payloads)


def ran(*jobs: Job) -> Evidence:
    return replace(SEEN, claims=len(jobs), started=len(jobs), jobs=jobs)


CASES = [
    ("never claimed", SEEN, 300, "NeverClaimed"),
    ("claimed, and no job came", replace(SEEN, claims=2), 300, "NoJob"),
    ("worked", ran(job(0)), 200, "Worked"),
    ("one of many worked", ran(job(1), job(1), job(0)), 200, "Worked"),
    ("worked, then asked to stop", replace(ran(job(0)), why=Why.STOPPED), 200, "Worked"),
    ("worked, then asked to take no more", replace(ran(job(0)), why=Why.REQUESTED), 200, "Worked"),
    ("worked to the end of its lifetime", replace(ran(job(0)), why=Why.LIFETIME), 200, "Worked"),
    ("its lifetime was over before a job came", replace(SEEN, why=Why.LIFETIME), 100, "Asked"),
    ("asked to take no more before a job came", replace(SEEN, why=Why.REQUESTED), 100, "Asked"),
    ("found nobody that wants it", replace(SEEN, why=Why.UNWANTED), 300, "NeverClaimed"),
    ("asked to stop before a job came", replace(SEEN, why=Why.STOPPED), 100, "Asked"),
    ("asked to stop, the job was taken away", replace(ran(job(None, end=End.EVICT)), why=Why.STOPPED), 100, "Asked"),
    ("asked to stop before the pool knew it", replace(SEEN, why=Why.STOPPED, known=False), 100, "Asked"),
    ("asked to stop, and in the end killed", replace(SEEN, why=Why.STOPPED, ended=-9), 100, "Asked"),
    ("pilots without payload", ran(job(0, payloads=0), job(0, payloads=0)), 300, "EmptyPilots"),
    ("a pilot with payload among empty ones", ran(job(0, payloads=0), job(0, payloads=2)), 200, "Worked"),
    ("a pilot that says there is none", ran(job(82)), 300, "JobsFailed"),
    ("a pilot that lacks its software", ran(job(64)), 500, "JobsFailed"),
    ("a pilot whose proxy is too short", ran(job(80)), 600, "JobsFailed"),
    ("a pilot whose queue is off", ran(job(78)), 400, "JobsFailed"),
    ("a pilot that ran out of time", ran(job(81)), 100, "JobsFailed"),
    ("most failures decide", ran(job(80), job(64), job(80)), 600, "JobsFailed"),
    ("its jobs failed in a row", replace(ran(job(1), job(1), job(1)), why=Why.JOBS_FAIL), 500, "JobsFailed"),
    ("so they did after good ones", replace(ran(job(0), *[job(1)] * 3), why=Why.JOBS_FAIL), 500, "JobsFailed"),
    ("so they did before a good one", replace(ran(*[job(1)] * 3, job(0)), why=Why.JOBS_FAIL), 500, "JobsFailed"),
    ("in a row, for a queue that is off", replace(ran(*[job(78)] * 3), why=Why.JOBS_FAIL), 400, "JobsFailed"),
    ("an unknown failure at once", ran(job(1)), 500, "JobsFailed"),
    ("an unknown failure after hours", ran(job(1, seconds=9000)), 700, "JobsFailed"),
    ("refused by the pool", replace(SEEN, known=False, refusal=REFUSAL), 400, "NotAuthorized"),
    ("refused once, but known since", replace(SEEN, refusal=REFUSAL), 300, "NeverClaimed"),
    ("not known, nobody says why", replace(SEEN, known=False), 600, "PoolSilent"),
    ("the master was killed", replace(ran(job(0)), ended=-9), 700, "MasterDied"),
    ("the master gave up late", replace(SEEN, ended=4), 700, "MasterDied"),
    ("the master could not begin", replace(SEEN, ended=4, known=False), 500, "MasterFailed"),
    ("its jobs were removed", ran(job(None, end=End.REMOVE)), 200, "JobsTakenAway"),
    ("no job got so far as to run", replace(SEEN, claims=3, started=3), 700, "JobsNotRun"),
]


@pytest.mark.parametrize(("seen", "code", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_was_seen_tells(seen: Evidence, code: int, reason: str) -> None:
    told = outcome(seen)
    assert (told.code, told.reason) == (code, reason)


@pytest.mark.parametrize("code", list(Code))
def test_the_controller_takes_each_code_and_its_exit_code_for_the_same_class(code: Code) -> None:
    if code is Code.WORKED:
        assert (BY_HUNDREDS[code // 100], code.exit_code) == (Class.WORKED, 0)
    else:
        assert BY_HUNDREDS[code // 100] == BY_EXIT_CODE[code.exit_code]


def test_the_controller_reads_the_message() -> None:
    told = outcome(ran(job(0)))
    text = Message(
        code=told.code, reason=told.reason, sentence=told.sentence, facts={"jobsStarted": 1, "node": "n"}
    ).text()  # fmt: skip
    read = objects.message_of(text)
    assert read is not None
    assert (read.code, read.reason, read.jobs_started) == (200, "Worked", 1)
    assert text.startswith("200 worked: 1 of 1 jobs did well\n")


@given(sentence=st.text(max_size=5000), node=st.text(max_size=253))
def test_a_message_is_two_lines_that_kubernetes_keeps_whole(sentence: str, node: str) -> None:
    exits = {str(number): 10**6 for number in range(10)}
    text = Message(code=Code.SITE_FAULT, reason="R", sentence=sentence, facts={"node": node, "exits": exits}).text()
    assert len(text.encode()) <= 4096
    read = objects.message_of(text)
    assert read is not None
    assert (read.code, read.reason) == (500, "R")


jobs_of_any_kind = st.builds(
    job,
    code=st.sampled_from([0, 1, *PILOT]),
    seconds=st.sampled_from([1.0, 10_000.0]),
    payloads=st.sampled_from([None, 0, 1]),
)


@given(jobs=st.lists(jobs_of_any_kind, min_size=1).map(tuple), order=st.randoms())
def test_the_order_of_the_jobs_does_not_matter(jobs: tuple[Job, ...], order: object) -> None:
    shuffled = list(jobs)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # what hypothesis gives is a random.Random
    assert outcome(ran(*jobs)).code is outcome(ran(*shuffled)).code


@given(jobs=st.lists(jobs_of_any_kind).map(tuple))
def test_it_worked_exactly_if_a_job_did_well(jobs: tuple[Job, ...]) -> None:
    assert (outcome(ran(*jobs)).code is Code.WORKED) == any(each.ok for each in jobs)


BAD = job(1)


@pytest.mark.parametrize(
    ("what", "jobs", "leaves"),
    [
        ("none", [], False),
        ("two that failed at once", [BAD, BAD], False),
        ("three", [BAD, BAD, BAD], True),
        ("three after a good one", [job(0), BAD, BAD, BAD], True),
        ("a good one among them", [BAD, BAD, job(0), BAD], False),
        ("an empty pilot among them", [BAD, BAD, job(0, payloads=0), BAD], False),
        ("a pilot that says that there is none", [BAD, BAD, job(82), BAD], False),
        ("a failure that took its time", [BAD, BAD, job(1, seconds=FIZZLE_SECONDS), BAD], False),
        ("a job that was removed among them", [BAD, job(None, end=End.REMOVE), BAD, BAD], True),
        ("jobs that were all taken away", [job(None, end=End.EVICT)] * 5, False),
        ("pilots that lack their software", [job(64)] * 3, True),
        ("pilots whose time was up", [job(81)] * 3, False),
        ("a good one after them", [BAD, BAD, BAD, job(0)], False),
    ],
)
def test_a_startd_leaves_that_goes_through_jobs_without_running_them(
    what: str,
    jobs: list[Job],
    leaves: bool,  # noqa: FBT001  one of a table
) -> None:
    assert jobs_fail(tuple(jobs)) is leaves, what


@given(jobs=st.lists(jobs_of_any_kind).map(tuple))
def test_whatever_it_leaves_for_there_is_a_verdict(jobs: tuple[Job, ...]) -> None:
    for why in (None, *Why):
        if why is not Why.JOBS_FAIL or jobs_fail(jobs):
            assert outcome(replace(ran(*jobs), why=why)).sentence
