"""A startd leaves without hurting its jobs, and within bounds whatever HTCondor does."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from reporter import leaving
from reporter.leaving import GOING_SECONDS, NOTICE_SECONDS, Step, Why, step

pytestmark = pytest.mark.fast

DAY = 86400.0


@pytest.mark.parametrize(
    ("what", "now", "busy", "deadline", "wanted"),
    [
        ("jobs run, nobody hurries", 30 * DAY, 30 * DAY, None, Step.DRAIN),
        ("the last job has just ended", 100, 99, None, Step.DRAIN),
        ("HTCondor stays without a job", 100 + GOING_SECONDS, 100, None, Step.FAST),
        ("it stays whatever it is told", 100 + 2 * GOING_SECONDS, 100, None, Step.KILL),
        ("jobs run, there is time", 100, 100, 3600, Step.DRAIN),
        ("time is nearly up", 3600 - NOTICE_SECONDS, 3570, 3600, Step.NOTICE),
        ("time is up", 3600, 3600, 3600, Step.FAST),
        ("time is up for HTCondor too", 3600 + GOING_SECONDS, 3660, 3600, Step.KILL),
    ],
)
def test_each_step_has_its_time(what: str, now: float, busy: float, deadline: float | None, wanted: Step) -> None:
    assert step(now, busy=busy, deadline=deadline) is wanted, what


@given(
    moments=st.lists(st.floats(0, 1000), min_size=2, max_size=2).map(sorted),
    busy=st.floats(0, 1000),
    deadline=st.none() | st.floats(0, 1000),
)
def test_time_never_takes_a_step_back(moments: list[float], busy: float, deadline: float | None) -> None:
    earlier, later = (step(now, busy=busy, deadline=deadline) for now in moments)
    assert earlier <= later


@given(now=st.floats(0, 1e7), idle=st.floats(0, GOING_SECONDS / 2))
def test_without_a_deadline_no_job_is_ever_disturbed(now: float, idle: float) -> None:
    assert step(now, busy=now - idle, deadline=None) is Step.DRAIN


def test_only_what_says_nothing_of_site_pool_or_jobs_counts_as_asked() -> None:
    assert {why for why in Why if why.asked} == {Why.STOPPED, Why.REQUESTED, Why.LIFETIME}


@pytest.mark.parametrize(
    ("text", "leaves"), [("", False), ("peaceful", True), ("drain\n", True), ("no", False), ("Peaceful", False)]
)
def test_an_annotation_asks_a_startd_to_leave(
    tmp_path: Path,
    text: str,
    leaves: bool,  # noqa: FBT001  one of a table
) -> None:
    (tmp_path / "requested").write_text(text)
    assert (leaving.requested(tmp_path / "requested") in leaving.REQUESTS) is leaves


def test_a_pod_without_annotations_is_asked_for_nothing(tmp_path: Path) -> None:
    assert leaving.requested(tmp_path / "requested") == ""


def test_starters_are_found_by_their_name_among_all_processes(tmp_path: Path) -> None:
    for number, name in {"7": "condor_startd", "12": "condor_starter", "345": "condor_starter", "346": "sh"}.items():
        (tmp_path / number).mkdir()
        (tmp_path / number / "comm").write_text(f"{name}\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "99").mkdir()
    assert leaving.starters(tmp_path) == {12, 345}
