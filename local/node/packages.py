"""The parts of a node that are Debian packages."""

from pathlib import Path

from local import packages
from local.progress import Progress

# What we run → the package that brings it (Debian 12 and 13; Ubuntu has them in `universe`).
PACKAGES = {
    "/usr/bin/etcd": "etcd-server",
    "/usr/bin/containerd": "containerd",
    "/usr/sbin/runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/sbin/nft": "nftables",
    "/usr/bin/catatonit": "catatonit",
}


def install(log: Path, progress: Progress) -> None:
    """Installs what is missing.

    Raises:
        Refusal: this is no Debian, or apt-get failed.
    """
    packages.ensure(PACKAGES, purpose="the node", log=log, progress=progress)
