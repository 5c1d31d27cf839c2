"""How jobs ended: written by HTCondor's hook, one file for each job, and read by the reporter."""

import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

SIGNALLED = 128  # as shells count: a job that a signal ended has 128 and the signal's number as its exit code

# HTCondor's name for the job's standard output in its sandbox.
OUTPUT = "_condor_stdout"
OUTPUT_TAIL_BYTES = 256 * 1024
# What pilots print; other jobs say none of it. The pilot itself, for each payload that it is given (PanDAWMS/pilot3,
# pilot/control/job.py, create_job); its wrapper near the end for all of them (PanDAWMS/pilot-wrapper,
# runpilot2-wrapper.sh, main).
RECEIVED = re.compile(r"\breceived job: *([0-9]+)\b")
GOT = re.compile(r"\bpandaids: *([0-9][0-9 ]*)")
GOT_NONE = re.compile(r"File not found: \S*pandaIDs\.out, no payload")


class End(StrEnum):
    """Who ended a job; the argument that HTCondor gives to the hook."""

    EXIT = "exit"
    REMOVE = "remove"
    HOLD = "hold"
    EVICT = "evict"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job that was run.

    Attributes:
        exit_code: None if it did not end by itself.
        seconds: that it ran.
        payloads: how many a pilot got; None for a job that does not say, which is its own payload.
    """

    end: End
    exit_code: int | None
    seconds: float
    payloads: int | None = None

    @property
    def ok(self) -> bool:
        """It did what it came for."""
        return self.exit_code == 0 and self.payloads != 0

    @property
    def empty(self) -> bool:
        """It was a pilot, and there was no payload for it."""
        return self.exit_code == 0 and self.payloads == 0


def of_hook(end: str, ad: str, output: str) -> Job:
    """The job that the hook is told about.

    Args:
        end: the hook's argument.
        ad: the job's ClassAd, an attribute a line.
        output: the end of the job's standard output.
    """
    how = End(end)
    values = dict(re.findall(r"^(ExitCode|ExitSignal|ExitBySignal|JobDuration) *= *(\S+)$", ad, re.MULTILINE))
    return Job(
        end=how,
        exit_code=_exit_code(values) if how is End.EXIT else None,
        seconds=float(values.get("JobDuration", "0")),
        payloads=payloads(output),
    )


def _exit_code(values: Mapping[str, str]) -> int | None:
    if values.get("ExitBySignal", "false").lower() == "true":
        return SIGNALLED + int(values.get("ExitSignal", "0"))
    return int(values["ExitCode"]) if "ExitCode" in values else None


def payloads(output: str) -> int | None:
    """How many payloads a pilot got, by its output so far; None if that does not say, as with any other job."""
    got = GOT.findall(output)
    if got:
        return sum(len(numbers.split()) for numbers in got)
    if GOT_NONE.search(output):
        return 0
    return len(set(RECEIVED.findall(output))) or None


def outputs(sandboxes: Path) -> Iterator[str]:
    """The ends of what the jobs that run have printed.

    Args:
        sandboxes: HTCondor's directory of them, one for each job.
    """
    for file in sandboxes.glob(f"dir_*/{OUTPUT}"):
        yield tail(file)


def tail(file: Path, size: int = OUTPUT_TAIL_BYTES) -> str:
    """The end of a file as text; empty if it cannot be read, or is no plain file, which might never end."""
    try:
        # A payload may put anything in the place of its output, at any moment: so what was opened is looked at.
        with open(file, "rb", opener=_without_waiting) as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                return ""
            stream.seek(max(0, found.st_size - size))
            return stream.read(size).decode(errors="replace")
    except OSError:
        return ""


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def write(job: Job, records: Path) -> None:
    """Keeps a job for the reporter, under a name that appears only when all is there."""
    handle, name = tempfile.mkstemp(prefix=".", dir=records)
    with os.fdopen(handle, "w") as file:
        json.dump(asdict(job), file)
    Path(name).rename(f"{records / Path(name).name.lstrip('.')}.json")


def collect(records: Path) -> Iterator[Job]:
    """The jobs that have ended since the last time, in that order; their records are removed.

    What is not a record of ours is passed over, for payloads can write here too.
    """
    for file in sorted(records.glob("*.json"), key=_written):
        try:
            said = json.loads(file.read_text())
            job = Job(
                end=End(said["end"]),
                exit_code=_whole(said["exit_code"]),
                seconds=float(said["seconds"]),
                payloads=_whole(said["payloads"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            job = None
        with contextlib.suppress(OSError):
            file.unlink()
        if job is not None:
            yield job


def _written(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _whole(value: object) -> int | None:
    if value is None or type(value) is int:
        return value
    raise ValueError(f"{value!r} is no whole number")
