"""Programs that come as Debian packages."""

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from local import commands
from local.progress import Progress
from local.refusal import Refusal

TRIES = 3
SECONDS = 600.0


def ensure(programs: Mapping[str, str], *, purpose: str, log: Path, progress: Progress) -> None:
    """Installs the packages whose programs are not on this machine.

    Args:
        programs: absolute path of a program → the package that brings it.
        purpose: what needs them, as in "building images"; begins the sentence if they cannot be had.
        log: where apt-get's output goes.
        progress: where an installation is told.

    Raises:
        Refusal: this is no Debian, we are not root, or apt-get failed.
    """
    wanted = sorted(package for program, package in programs.items() if not Path(program).exists())
    if not wanted:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise Refusal(
            f"{purpose} needs {', '.join(wanted)}, which only root on Debian or Ubuntu can have installed here: "
            "install them, then run again"
        )
    progress.note(f"installing {', '.join(wanted)}")
    for attempt in range(1, TRIES + 1):
        try:
            for words in (["update"], ["install", "--yes", "--no-install-recommends", *wanted]):
                commands.run(
                    # A lock of dpkg that another program holds (unattended upgrades) is waited for.
                    ["apt-get", "-o", "DPkg::Lock::Timeout=120", *words],
                    what=f"{purpose}: apt-get {words[0]}",
                    log=log,
                    seconds=SECONDS,
                    environment={"DEBIAN_FRONTEND": "noninteractive"},
                )
        except Refusal:
            if attempt == TRIES:
                raise
            progress.note(f"apt-get failed, trying again ({attempt + 1} of {TRIES})")
            time.sleep(2.0**attempt)
        else:
            return
