"""The parts of a node that are Debian packages."""

import shutil
import time
from pathlib import Path

from local import commands
from local.progress import Progress
from local.refusal import Refusal

TRIES = 3
SECONDS = 600.0
# What we run → the package that brings it (Debian 12 and 13; Ubuntu has them in `universe`).
PACKAGES = {
    "/usr/bin/etcd": "etcd-server",
    "/usr/bin/containerd": "containerd",
    "/usr/sbin/runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/sbin/nft": "nftables",
    "/usr/bin/catatonit": "catatonit",
}
ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    # The packages bring services of their own (etcd, containerd): systemctl then starts none of them.
    "SYSTEMD_OFFLINE": "1",
}


def missing() -> list[str]:
    """The packages whose programs are not on this machine."""
    return [package for program, package in PACKAGES.items() if not Path(program).exists()]


def install(log: Path, progress: Progress) -> None:
    """Installs what is missing.

    Raises:
        Refusal: this is no Debian, or apt-get failed.
    """
    wanted = missing()
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        raise Refusal(f"the node needs {', '.join(wanted)} and there is no apt-get here: install them, then run again")
    progress.note(f"installing {', '.join(wanted)}")
    for attempt in range(1, TRIES + 1):
        try:
            for words in (["update"], ["install", "--yes", "--no-install-recommends", *wanted]):
                # A lock of dpkg that another program holds (unattended upgrades) is waited for.
                commands.run(
                    ["apt-get", "-o", "DPkg::Lock::Timeout=120", *words],
                    what=f"apt-get {words[0]}",
                    log=log,
                    seconds=SECONDS,
                    environment=ENVIRONMENT,
                )
        except Refusal:
            if attempt == TRIES:
                raise
            progress.note(f"apt-get failed, trying again ({attempt + 1} of {TRIES})")
            time.sleep(2.0**attempt)
        else:
            break
    still = missing()
    if still:
        raise Refusal(f"the packages {', '.join(still)} do not bring what the node runs on this distribution")
