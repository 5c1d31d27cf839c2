"""Whether payloads can start containers of their own here, as pilots do with Apptainer: tried, not guessed."""

import errno
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reporter.fault import Fault

TRY = Path(__file__).with_name("nested.py")
TRY_SECONDS = 30.0
# Cold, it is read through the squids first: 70 MB.
START_SECONDS = 90.0
# Below its repository, where ATLAS keeps Apptainer and the image unpacked that a pilot is started in: the pilot wrapper
# looks for them there, and reads no setting.
PROGRAM = "repo/containers/sw/apptainer/{machine}-el9/current/bin/apptainer"
IMAGE = "repo/containers/fs/singularity/{machine}-almalinux9"
# What a pilot says where its queue says nothing else, and the wrapper's own. No process namespace: see docs/adr/0014.
OPTIONS = ("--contain", "--ipc", "--cleanenv")
# What a node's administrator may have set, and the value that forbids.
SWITCHES = (
    ("user.max_user_namespaces", "0"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
)
# Of a message of Apptainer's; the part of it that is in C knows no --nocolor.
LEVEL = re.compile(r"^[A-Z]+ *: +")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
CONFINED = re.compile(r"(.+) \((enforce|kill)\)")
LABELS = ("proc/self/attr/apparmor/current", "proc/self/attr/current")
RUNBOOK = "docs/runbooks/payload-containers.md"


@dataclass(frozen=True, kw_only=True)
class Apptainer:
    """As it is found in a repository.

    Attributes:
        program: what is run.
        image: a directory.
    """

    program: Path
    image: Path


def find(repositories: Sequence[Path]) -> Apptainer | None:
    """The first Apptainer with an image, if there is one."""
    machine = platform.machine()
    for repository in repositories:
        program, image = (repository / place.format(machine=machine) for place in (PROGRAM, IMAGE))
        if program.is_file() and image.is_dir():
            return Apptainer(program=program, image=image)
    return None


def start(apptainer: Apptainer, directory: Path, software: Path) -> str | None:
    """Starts the image as a pilot does and looks for the software in it; why that cannot be done, none if it can.

    Args:
        apptainer: which one.
        directory: that a payload works in.
        software: where the repositories are.
    """
    program, binds = apptainer.program, (f"--bind={directory}", f"--bind={software}")
    words = (program, "--silent", "exec", *OPTIONS, *binds, apptainer.image, "ls", program)
    done = _run(words, directory, START_SECONDS)
    if isinstance(done, str):
        return f"{program}: {done}"
    if done.returncode == 0:
        return None
    said = COLOUR.sub("", done.stderr).strip().splitlines() or ["it died"]
    return f"{program}: {LEVEL.sub('', said[-1])}"


def _run(words: Sequence[str | Path], directory: Path, seconds: float) -> subprocess.CompletedProcess[str] | str:
    """What came of it; why it could not be run or did not end, if it is so."""
    try:
        return subprocess.run(
            words, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except OSError as error:
        return str(error.strerror)
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:.0f} s"


def attempt(directory: Path, software: Path) -> str | None:
    """Makes a user and a mount namespace with the software in it; why that cannot be done, none if it can.

    Args:
        directory: empty or not, where the new root is mounted, seen by nobody else.
        software: that a payload takes into its container.
    """
    done = _run([sys.executable, "-I", TRY, directory, software], directory, TRY_SECONDS)
    if isinstance(done, str):
        return done
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


def required(reason: str, failure: str | None) -> None:
    """Where the site promises it, the startd takes no payload without.

    Args:
        reason: one word for tables.
        failure: what was told of the trial.

    Raises:
        Fault: it cannot be done.
    """
    if failure is not None:
        raise Fault(reason, f"payloads cannot start containers, {failure}; see {RUNBOOK}")


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip("\0\n ")
    except OSError:  # this kernel has no such thing
        return ""
