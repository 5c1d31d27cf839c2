"""Whether a node's repositories can be read, looked at by a process that may hang in our place."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.nodehealth.model import CVMFS
from services.nodehealth.rules import Condition

LOOK_SECONDS = 20.0
KILL_SECONDS = 1.0
# Repositories come some time after the node; and squids, or a server, may be gone for a moment.
PATIENCE_SECONDS = 300.0
# Lists the repository, reads from a file of it, and prints how many reads the client has failed (CVMFS tells that in
# the attribute user.nioerr; other clients have none).
LOOK = """\
import os, sys
try:
    with os.scandir(sys.argv[1]) as entries:
        found = list(entries)
    if not found:
        sys.exit("it is empty")
    for entry in found:
        if entry.is_file():
            with open(entry.path, "rb") as stream:
                stream.read(1)
            break
except OSError as error:
    sys.exit(error.strerror)
try:
    print(int(os.getxattr(sys.argv[1], "user.nioerr")))
except (OSError, ValueError):
    print(0)
"""
WELL = Condition(kind=CVMFS, true=False, reason="RepositoriesAreWell", message="each repository can be read")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a look at a repository showed.

    Attributes:
        why: it cannot be read; empty if it can.
        errors: reads that the client has failed since it mounted the repository.
    """

    why: str = ""
    errors: int = 0


@dataclass(frozen=True, kw_only=True)
class History:
    """What looks at all repositories have shown.

    Attributes:
        condition: as it stands.
        since: when looks began to differ from what the condition says, as POSIX seconds; None if they agree.
    """

    condition: Condition = WELL
    since: float | None = None


async def look(repository: Path, seconds: float = LOOK_SECONDS) -> Seen:
    """Looks, for so long at most."""
    return await asyncio.to_thread(_look, repository, seconds)


def _look(repository: Path, seconds: float) -> Seen:
    with (
        os.fdopen(os.memfd_create("look"), "w+b") as told,  # where a monitor runs nothing can be written
        subprocess.Popen(
            [sys.executable, "-I", "-c", LOOK, repository], stdin=subprocess.DEVNULL, stdout=told, stderr=told
        ) as looker,
    ):
        try:
            code = looker.wait(seconds)
        except subprocess.TimeoutExpired:
            looker.kill()
            with suppress(subprocess.TimeoutExpired):
                looker.wait(KILL_SECONDS)
            # It may be stuck in the kernel, and then nothing ends it; so nobody waits for it any longer.
            looker.returncode = looker.returncode or -signal.SIGKILL
            return Seen(why=f"no answer within {seconds:.0f} s")
        told.seek(0)
        said = told.read().decode(errors="replace").strip()
    return Seen(errors=int(said)) if code == 0 else Seen(why=said or "it cannot be read")


def after(history: History, why: str, *, now: float, quiet: float, patience: float = PATIENCE_SECONDS) -> History:
    """The history after another look.

    Args:
        history: before it.
        why: not all repositories can be read; empty if they can.
        now: POSIX seconds.
        quiet: a problem is over after so many seconds of good looks.
        patience: bad looks for so many seconds are a problem.
    """
    if bool(why) is history.condition.true:
        return History(condition=history.condition)
    since = now if history.since is None else history.since
    if now - since < (patience if why else quiet):
        return History(condition=history.condition, since=since)
    bad = Condition(kind=CVMFS, true=True, reason="RepositoryUnreadable", message=why[:200])
    return History(condition=bad if why else WELL)
