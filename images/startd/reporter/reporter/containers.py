"""Whether payloads can start containers of their own here, as pilots do with Apptainer: tried, not guessed."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from reporter.fault import Fault

TRY = Path(__file__).with_name("nested.py")
TRY_SECONDS = 30.0
# What a node's administrator may have set, and the value that forbids.
SWITCHES = (
    ("user.max_user_namespaces", "0"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
)
CONFINED = re.compile(r"(.+) \((enforce|kill)\)")
LABELS = ("proc/self/attr/apparmor/current", "proc/self/attr/current")
RUNBOOK = "docs/runbooks/payload-containers.md"


def attempt(directory: Path, software: Path) -> str | None:
    """Makes a user and a mount namespace with the software in it; why that cannot be done, none if it can.

    Args:
        directory: empty or not, where the new root is mounted, seen by nobody else.
        software: that a payload takes into its container.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", TRY, directory, software],
            capture_output=True,
            text=True,
            timeout=TRY_SECONDS,
            check=False,
        )
    except OSError as error:
        return str(error.strerror)
    except subprocess.TimeoutExpired:
        return f"no answer within {TRY_SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    step, _, number = done.stdout.strip().partition(" ")
    if not number.isdecimal():
        return (done.stderr.strip().splitlines() or ["it died"])[-1]
    return why(step, int(number))


def why(step: str, number: int, root: Path = Path("/")) -> str:
    """What failed, and what of this node and this container is known to forbid it."""
    causes = list(_causes(step, number, root))
    return f"{step}: {os.strerror(number)}" + (f", for {' and '.join(causes)}" if causes else "")


def _causes(step: str, number: int, root: Path) -> Iterator[str]:
    found = False
    for name, forbids in SWITCHES:
        if _read(root / "proc/sys" / name.replace(".", "/")) == forbids:
            found = True
            yield f"{name} is {forbids} on this node"
    for place in LABELS:
        if confined := CONFINED.fullmatch(_read(root / place)):
            found = True
            yield f"the container has the AppArmor profile {confined[1]}"
            break
    if found:
        return
    if number in {errno.ENOSYS, errno.EINVAL}:
        yield "the node's kernel has no user namespaces"
    elif step == "unshare" and re.search(r"^Seccomp:\s+2$", _read(root / "proc/self/status"), re.MULTILINE):
        yield "the container's seccomp profile does not allow it"


def required(failure: str | None) -> None:
    """Where the site promises it, the startd takes no payload without.

    Raises:
        Fault: it cannot be done.
    """
    if failure is not None:
        raise Fault("NoUserNamespaces", f"payloads cannot start containers, {failure}; see {RUNBOOK}")


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip("\0\n ")
    except OSError:  # this kernel has no such thing
        return ""
