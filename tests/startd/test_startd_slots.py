"""What became of the slots is told by the state changes in HTCondor's own log, as 23.9.6 writes it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st
from reporter.slots import Slots

pytestmark = pytest.mark.fast

BEGAN = datetime(2026, 11, 25, 18, 0, tzinfo=UTC)


def at(second: float, text: str) -> str:
    return f"{(BEGAN + timedelta(seconds=second)).strftime('%Y-%m-%dT%H:%M:%S%z')} {text}"


def changes(slot: str, *steps: tuple[float, str]) -> list[str]:
    return [at(second, f"{slot}: Changing {change}") for second, change in steps]


def read(lines: list[str]) -> Slots:
    slots = Slots()
    for line in lines:
        slots.read(line)
    return slots


JOB = (
    (10, "state: Owner -> Claimed"),
    (10, "activity: Idle -> Busy"),
    (40, "activity: Busy -> Idle"),
)
AWAY = (
    (41, "state and activity: Claimed/Idle -> Preempting/Vacating"),
    (41, "state and activity: Preempting/Vacating -> Owner/Idle"),
    (41, "state: Owner -> Unclaimed"),
    (41, "state: Unclaimed -> Delete"),
)


def test_a_claim_with_one_job() -> None:
    slots = read(changes("slot1_1", *JOB, *AWAY))
    assert (slots.claims, slots.started, slots.running, slots.claimed) == (1, 1, 0, False)
    assert slots.first_claim == (BEGAN + timedelta(seconds=10)).timestamp()
    assert slots.busy_seconds(BEGAN.timestamp() + 100) == 30


def test_two_jobs_of_one_claim() -> None:
    again = ((50, "activity: Idle -> Busy"), (55, "activity: Busy -> Idle"))
    slots = read(changes("slot1_1", *JOB, *again))
    assert (slots.claims, slots.started, slots.claimed) == (1, 2, True)
    assert slots.busy_seconds(BEGAN.timestamp() + 100) == 35


def test_a_claim_without_a_job() -> None:
    slots = read(changes("slot1_1", JOB[0], *AWAY))
    assert (slots.claims, slots.started) == (1, 0)


def test_jobs_side_by_side_are_one_busy_time() -> None:
    slots = read([*changes("slot1_1", *JOB[:2]), *changes("slot1_2", (20, JOB[0][1]), (20, JOB[1][1]))])
    assert slots.running == 2
    assert slots.busy_seconds(BEGAN.timestamp() + 30) == 20
    assert slots.unfinished_seconds(BEGAN.timestamp() + 30) == 20 + 10
    assert slots.longest_seconds(BEGAN.timestamp() + 30) == 20


def test_a_job_that_retires_still_runs() -> None:
    slots = read(changes("slot1_1", *JOB[:2], (20, "activity: Busy -> Retiring")))
    assert slots.running == 1
    assert slots.started == 1


def test_a_startd_that_was_started_anew_has_no_claims_but_remembers_its_work() -> None:
    slots = read([*changes("slot1_1", *JOB[:2]), at(60, "** condor_startd (CONDOR_STARTD) STARTING UP")])
    assert (slots.claimed, slots.running, slots.claims, slots.started) == (False, 0, 1, 1)
    assert slots.busy_seconds(BEGAN.timestamp() + 100) == 50


@pytest.mark.parametrize(
    "line",
    [
        "",
        at(1, "slot1_1: State change: claim-activation protocol successful"),
        at(1, "slot1: New pSlot of type 1 allocated"),
        "yesterday slot1_1: Changing state: Owner -> Claimed",
    ],
)
def test_other_lines_say_nothing(line: str) -> None:
    slots = Slots()
    assert not slots.read(line)
    assert slots == Slots()


@given(st.lists(st.sampled_from([change for _, change in (*JOB, *AWAY)]), max_size=30))
def test_whatever_the_log_says_jobs_never_run_longer_than_time_went_by(steps: list[str]) -> None:
    slots = read(changes("slot1_1", *enumerate(steps)))
    now = BEGAN.timestamp() + len(steps)
    assert 0 <= slots.busy_seconds(now) <= len(steps)
    assert slots.running in {0, 1}
    assert slots.started <= len(steps)
