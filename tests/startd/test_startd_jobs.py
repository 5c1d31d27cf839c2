"""The hook at a job's end tells the reporter how it ended, and whether a pilot found a payload."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from reporter import jobs
from reporter.jobs import End, Job

pytestmark = pytest.mark.fast

# What a pilot prints when it is given a payload.
RECEIVED = "2026-11-25 18:00:00,123 | INFO     | received job: {} (sleep until the job has finished)"
AD = """\
ExitBySignal = false
ExitCode = 0
JobDuration = 12.5
Cmd = "/bin/sh"
"""


@pytest.mark.parametrize(
    ("end", "ad", "output", "job"),
    [
        ("exit", AD, "hello", Job(end=End.EXIT, exit_code=0, seconds=12.5)),
        ("exit", AD.replace("Code = 0", "Code = 82"), "", Job(end=End.EXIT, exit_code=82, seconds=12.5)),
        (
            "exit",
            AD.replace("false", "true").replace("ExitCode = 0", "ExitSignal = 9"),
            "",
            Job(end=End.EXIT, exit_code=137, seconds=12.5),
        ),
        ("evict", AD, "", Job(end=End.EVICT, exit_code=None, seconds=12.5)),
        ("remove", "", "", Job(end=End.REMOVE, exit_code=None, seconds=0)),
        ("exit", AD, "…\npandaids: 6001 6002\nbye", Job(end=End.EXIT, exit_code=0, seconds=12.5, payloads=2)),
        (
            "exit",
            AD,
            "File not found: /tmp/x/pandaIDs.out, no payload\n",
            Job(end=End.EXIT, exit_code=0, seconds=12.5, payloads=0),
        ),
        ("evict", AD, f"{RECEIVED.format(6001)}\n", Job(end=End.EVICT, exit_code=None, seconds=12.5, payloads=1)),
    ],
)
def test_a_job_as_the_hook_is_told_of_it(end: str, ad: str, output: str, job: Job) -> None:
    assert jobs.of_hook(end, ad, output) == job


def test_only_a_job_that_ended_well_and_had_a_payload_is_ok() -> None:
    job = Job(end=End.EXIT, exit_code=0, seconds=1)
    assert job.ok
    assert replace(job, payloads=3).ok
    assert not replace(job, payloads=0).ok
    assert replace(job, payloads=0).empty
    assert not replace(job, exit_code=1).ok
    assert not replace(job, end=End.EVICT, exit_code=None).ok


def test_each_job_is_told_once(tmp_path: Path) -> None:
    written = [Job(end=End.EXIT, exit_code=number, seconds=number, payloads=None) for number in range(3)]
    for job in written:
        jobs.write(job, tmp_path)
    assert sorted(jobs.collect(tmp_path), key=lambda job: job.seconds) == written
    assert list(jobs.collect(tmp_path)) == []


@pytest.mark.parametrize(
    ("output", "payloads"),
    [
        ("", None),
        ("hello", None),
        ("did not get a job -- sleep 60 s and repeat", None),
        (RECEIVED.format(6001), 1),
        (f"{RECEIVED.format(6001)}\n{RECEIVED.format(6001)}\n{RECEIVED.format(6002)}", 2),
        (f"{RECEIVED.format(6001)}\npandaids: 6001 6002", 2),
        (f"{RECEIVED.format('none')}", None),
    ],
)
def test_a_pilot_tells_of_its_payloads_while_it_runs_and_of_all_at_its_end(output: str, payloads: int | None) -> None:
    assert jobs.payloads(output) == payloads


def test_the_outputs_of_running_jobs_are_those_in_their_sandboxes(tmp_path: Path) -> None:
    for sandbox in ("dir_1", "dir_22", "other"):
        (tmp_path / sandbox).mkdir()
        (tmp_path / sandbox / "_condor_stdout").write_text(sandbox)
    (tmp_path / "dir_3").mkdir()
    assert sorted(jobs.outputs(tmp_path)) == ["dir_1", "dir_22"]


def test_jobs_are_told_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    for number in range(9):
        jobs.write(Job(end=End.EXIT, exit_code=number, seconds=1), tmp_path)
        (newest,) = (file for file in tmp_path.iterdir() if file.stat().st_mtime_ns > 10**12)
        os.utime(newest, ns=(number, number))
    assert [job.exit_code for job in jobs.collect(tmp_path)] == list(range(9))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"end": "exit"}',
        '{"end": "won", "exit_code": 0, "seconds": 1, "payloads": null}',
        '{"end": "exit", "exit_code": "0", "seconds": 1, "payloads": null}',
    ],
)
def test_what_is_no_record_is_passed_over_once(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    jobs.write(Job(end=End.EXIT, exit_code=0, seconds=1), tmp_path)
    assert len(list(jobs.collect(tmp_path))) == 1
    assert list(tmp_path.iterdir()) == []


def test_of_a_long_output_only_the_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"x" * 1000 + b"\xffend")
    assert jobs.tail(tmp_path / "out", 4) == "\ufffdend"


def test_an_output_that_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert jobs.tail(tmp_path / "pipe") == ""
    assert jobs.tail(tmp_path / "link") == ""
    assert jobs.tail(tmp_path) == ""
    assert jobs.tail(tmp_path / "nowhere") == ""


@pytest.mark.parametrize(
    ("output", "received"),
    [
        ("…| INFO | received job: 6001 (sleep until the job has finished)\n", True),
        ("asking for a job\n", False),
        ("File not found: /tmp/x/pandaIDs.out, no payload\n", False),
        (None, False),
    ],
)
def test_a_pilot_that_runs_tells_that_it_has_a_payload(tmp_path: Path, output: str | None, *, received: bool) -> None:
    (tmp_path / "dir_1").mkdir()
    (sandbox := tmp_path / "dir_2").mkdir()
    if output is not None:
        (sandbox / jobs.OUTPUT).write_text(output)
    os.mkfifo(tmp_path / "dir_1" / jobs.OUTPUT)  # whoever opened it would wait for ever
    assert jobs.received(tmp_path) is received
