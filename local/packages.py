"""Programs that come as Debian packages."""

import contextlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from local import commands, lock
from local.paths import cache_dir
from local.progress import Progress
from local.refusal import Refusal

TRIES = 3
SECONDS = 600.0
ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    # Some packages bring services of their own (etcd, containerd): systemctl then starts none of them.
    "SYSTEMD_OFFLINE": "1",
}


def ensure(programs: Mapping[str, str], *, purpose: str, log: Path, progress: Progress) -> None:
    """Installs the packages whose programs are not on this machine.

    Args:
        programs: absolute path of a program → the package that brings it.
        purpose: what needs them, as in "building images"; begins the sentence if they cannot be had.
        log: where apt-get's output goes.
        progress: where an installation is told.

    Raises:
        Refusal: this is no Debian, we are not root, apt-get failed, or the packages are other ones here.
    """
    wanted = missing(programs)
    if not wanted:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise Refusal(
            f"{purpose} needs {', '.join(wanted)}, which only root on Debian or Ubuntu can have installed here: "
            "install them, then run again"
        )
    # apt-get gives up at once where another one reads lists of packages.
    with lock.held(cache_dir() / "apt.lock", progress, f"{purpose}: another process installs packages"):
        # Whoever held the lock may have installed the same.
        if wanted := missing(programs):
            _install(wanted, purpose=purpose, log=log, progress=progress)
    still = missing(programs)
    if still:
        raise Refusal(f"{purpose}: the packages {', '.join(still)} do not bring what is run on this distribution")


def missing(programs: Mapping[str, str]) -> list[str]:
    """The packages whose programs are not on this machine."""
    return sorted(package for program, package in programs.items() if not Path(program).exists())


def _install(wanted: Sequence[str], *, purpose: str, log: Path, progress: Progress) -> None:
    progress.note(f"installing {', '.join(wanted)}")

    def run(*words: str) -> None:
        commands.run(words, what=f"{purpose}: {words[0]}", log=log, seconds=SECONDS, environment=ENVIRONMENT)

    for attempt in range(1, TRIES + 1):
        try:
            for words in (["update"], ["install", "--yes", "--no-install-recommends", *wanted]):
                # A lock of dpkg that another program holds (unattended upgrades) is waited for.
                run("apt-get", "-o", "DPkg::Lock::Timeout=120", *words)
        except Refusal:
            if attempt == TRIES:
                raise
            progress.note(f"apt-get failed, trying again ({attempt + 1} of {TRIES})")
            time.sleep(2.0**attempt)
            # What an installation that was stopped (Ctrl-C) left half-made keeps apt-get from doing anything.
            with contextlib.suppress(Refusal):
                run("dpkg", "--configure", "--pending")
        else:
            break
