"""How jobs ended: written by HTCondor's hook, one file for each job, and read by the reporter."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

SIGNALLED = 128  # as shells count: a job that a signal ended has 128 and the signal's number as its exit code

# HTCondor's name for the job's standard output in its sandbox.
OUTPUT = "_condor_stdout"
# The pilot wrapper tells near its end which payloads the pilot got; other jobs say neither.
OUTPUT_TAIL_BYTES = 256 * 1024
GOT = re.compile(r"\bpandaids: *([0-9][0-9 ]*)")
GOT_NONE = re.compile(r"File not found: \S*pandaIDs\.out, no payload")
# What the pilot itself says as soon as it has one (pilot3, pilot/control/job.py); it then works for hours.
RECEIVED = re.compile(r"\breceived job: *[0-9]+")


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
        payloads=_payloads(output),
    )


def _exit_code(values: Mapping[str, str]) -> int | None:
    if values.get("ExitBySignal", "false").lower() == "true":
        return SIGNALLED + int(values.get("ExitSignal", "0"))
    return int(values["ExitCode"]) if "ExitCode" in values else None


def _payloads(output: str) -> int | None:
    got = GOT.findall(output)
    if got:
        return sum(len(numbers.split()) for numbers in got)
    return 0 if GOT_NONE.search(output) else None


def tail(file: Path, size: int = OUTPUT_TAIL_BYTES) -> str:
    """The end of a file as text; empty if it cannot be read, or is no plain file, which might never end."""
    try:
        if not file.is_file():
            return ""
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - size))
            return stream.read(size).decode(errors="replace")
    except OSError:
        return ""


def received(sandboxes: Path) -> bool:
    """Whether a pilot that runs says that it has a payload.

    Args:
        sandboxes: HTCondor's directory EXECUTE, with one directory for each job.
    """
    return any(RECEIVED.search(tail(file)) for file in sandboxes.glob(f"dir_*/{OUTPUT}"))


def write(job: Job, records: Path) -> None:
    """Keeps a job for the reporter, under a name that appears only when all is there."""
    handle, name = tempfile.mkstemp(prefix=".", dir=records)
    with os.fdopen(handle, "w") as file:
        json.dump(asdict(job), file)
    Path(name).rename(f"{records / Path(name).name.lstrip('.')}.json")


def collect(records: Path) -> Iterator[Job]:
    """The jobs that have ended since the last time; their records are removed.

    What is not a record of ours is passed over, for payloads can write here too.
    """
    for file in sorted(records.glob("*.json")):
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


def _whole(value: object) -> int | None:
    if value is None or type(value) is int:
        return value
    raise ValueError(f"{value!r} is no whole number")
