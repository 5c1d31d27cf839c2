"""Whether the software repositories that payloads need are there."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from reporter.codes import Code
from reporter.fault import Fault
from reporter.message import Message, write
from reporter.settings import number

ROOT = Path("/cvmfs")
LOOK_EVERY_SECONDS = 1.0
# A mount whose server is gone may hang whoever looks at it, for ever and unkillably; so another process looks.
LOOK_SECONDS = 20.0
LOOK = """\
import os, sys
try:
    sys.exit(None if os.listdir(sys.argv[1]) else "it is empty")
except OSError as error:
    sys.exit(error.strerror)
"""


def repositories(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The names in REPOSITORIES.

    Raises:
        Fault: one is no name.
    """
    names = tuple(name.strip() for name in environment.get("REPOSITORIES", "").split(",") if name.strip())
    for name in names:
        if "/" in name or name.startswith("."):
            raise Fault("Environment", f"REPOSITORIES: {name!r} is not the name of a repository")
    return names


def look(repository: Path, seconds: float = LOOK_SECONDS) -> str | None:
    """Why a repository cannot be used now; none if it can be listed and is not empty."""
    try:
        looker = subprocess.Popen(
            [sys.executable, "-I", "-c", LOOK, repository], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
    except OSError as error:
        return str(error.strerror)
    try:
        _, said = looker.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        looker.kill()  # not waited for: it may be stuck in the kernel
        return f"no answer within {seconds:.0f} s"
    return None if looker.returncode == 0 else said.strip() or "it cannot be listed"


def wait(names: tuple[str, ...], seconds: float, root: Path = ROOT) -> None:
    """Waits until every repository is there.

    Raises:
        Fault: one is not, after so many seconds.
    """
    deadline = time.monotonic() + seconds
    for name in names:
        while (why := look(root / name, min(LOOK_SECONDS, max(1.0, deadline - time.monotonic())))) is not None:
            if time.monotonic() > deadline:
                raise Fault(
                    "SoftwareMissing", f"{root / name} after {seconds:.0f} s: {why}; look at CVMFS on this node"
                )
            time.sleep(LOOK_EVERY_SECONDS)


def main() -> int:
    """The program of the init container; its exit code."""
    try:
        wait(repositories(os.environ), number(os.environ, "SOFTWARE_SECONDS"))
    except Fault as fault:
        write(Message(code=Code.SITE_FAULT, reason=fault.reason, sentence=str(fault)))
        print(f"{int(Code.SITE_FAULT)} {fault.reason}: {fault}", flush=True)
        return Code.SITE_FAULT.exit_code
    return 0
