"""Processes known again by process id and start time."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.node import processes
from local.node.processes import Daemon, Process

pytestmark = pytest.mark.fast

SLEEPER = Daemon(name="sleeper", command=("/bin/sleep", "600"))
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
# A line of the kernel's, with a name that tries to look like more fields.
STAT = "4242 (a) R 1 (b) S 1 4242 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 1 1 1"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "processes"
    place.mkdir()
    yield place
    processes.kill([found for record in place.iterdir() if (found := processes.recorded(record)) is not None])


def start(daemon: Daemon, records: Path) -> Process:
    processes.start(daemon, records, records.parent / "log", ENVIRONMENT)
    found = processes.recorded(records / daemon.name)
    assert found is not None
    return found


def test_a_stat_line_is_read_right_whatever_the_program_calls_itself() -> None:
    assert processes.parse_stat(STAT) == (Process(pid=4242, started=987654), "S")


def test_what_was_started_is_recorded_and_runs(records: Path) -> None:
    process = start(SLEEPER, records)
    assert processes.alive(process.pid) == process
    assert processes.runs(SLEEPER, records)


def test_it_is_out_of_reach_of_a_ctrl_c_in_our_terminal(records: Path) -> None:
    process = start(SLEEPER, records)
    assert os.getsid(process.pid) != os.getsid(0)
    assert os.getpgid(process.pid) != os.getpgid(0)


def test_it_writes_to_its_log(records: Path) -> None:
    talker = Daemon(name="talker", command=("/bin/sh", "-c", "echo out; echo err >&2; exec sleep 600"))
    start(talker, records)
    log = records.parent / "log"
    for _ in range(500):
        if "err" in log.read_text():
            break
        time.sleep(0.01)
    assert log.read_text() == "out\nerr\n"


def test_what_ended_is_not_taken_for_running(records: Path) -> None:
    process = start(SLEEPER, records)
    processes.kill([process])
    assert processes.recorded(records / SLEEPER.name) is None
    assert not processes.runs(SLEEPER, records)


def test_with_other_words_it_is_not_that_daemon_and_is_replaced(records: Path) -> None:
    first = start(SLEEPER, records)
    changed = Daemon(name=SLEEPER.name, command=("/bin/sleep", "601"))
    assert not processes.runs(changed, records)
    second = start(changed, records)
    assert processes.alive(first.pid) is None
    assert second != first


def test_a_process_id_that_went_to_another_program_is_not_ours(records: Path) -> None:
    process = start(SLEEPER, records)
    record = records / SLEEPER.name
    text = record.read_text()
    record.write_text(text.replace(f" {process.started} ", f" {process.started - 1} "))
    assert processes.recorded(record) is None
    record.write_text(text)


def test_a_record_of_before_the_last_boot_says_nothing(records: Path) -> None:
    start(SLEEPER, records)
    record = records / SLEEPER.name
    text = record.read_text()
    record.write_text(text.replace(processes.boot(), "00000000-0000-0000-0000-000000000000"))
    assert processes.recorded(record) is None
    record.write_text(text)


@pytest.mark.parametrize("text", ["", "half a record\n"])
def test_a_record_cut_short_says_nothing(records: Path, text: str) -> None:
    (records / "cut").write_text(text)
    assert processes.recorded(records / "cut") is None


def test_a_process_of_the_same_id_and_another_start_is_not_killed() -> None:
    with subprocess.Popen(["/bin/sleep", "600"]) as bystander:
        found = processes.alive(bystander.pid)
        assert found is not None
        processes.kill([Process(pid=found.pid, started=found.started - 1)])
        assert processes.alive(bystander.pid) == found
        bystander.kill()


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert processes.alive(child.pid) is None


def test_the_start_of_a_process_is_told_as_a_time_of_day(records: Path) -> None:
    earlier, later = start(SLEEPER, records), start(Daemon(name="other", command=SLEEPER.command), records)
    own = processes.alive(os.getpid())
    assert own is not None
    assert processes.began(own) < processes.began(later)
    assert earlier.started <= later.started
