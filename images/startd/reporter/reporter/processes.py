"""The payloads' processes, so that they can be told that their time is up."""

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

PROC = Path("/proc")
STARTER = "condor_starter"


def tell_payloads() -> None:
    """Sends SIGTERM to every process of every job; those that are gone meanwhile need none."""
    for pid in payloads(table()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)


def payloads(processes: Mapping[int, tuple[int, str]]) -> set[int]:
    """The processes below HTCondor's starters, each of which runs one job.

    Args:
        processes: parent and name of each.
    """
    starters = {pid for pid, (_, name) in processes.items() if name == STARTER}
    found: set[int] = set()
    while True:
        more = {pid for pid, (parent, _) in processes.items() if parent in starters | found} - found - starters
        if not more:
            return found
        found |= more


def table(proc: Path = PROC) -> dict[int, tuple[int, str]]:
    """Parent and name of each process of the pod."""
    processes = {}
    for directory in proc.iterdir():
        if directory.name.isdecimal():
            # The name may hold blanks and parentheses; what follows the last one is the state and the parent.
            with contextlib.suppress(OSError):
                head, _, rest = (directory / "stat").read_text(errors="replace").rpartition(")")
                processes[int(directory.name)] = (int(rest.split()[1]), head.partition("(")[2])
    return processes
