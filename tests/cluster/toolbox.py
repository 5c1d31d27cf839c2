"""An image for tests of the node: a static busybox and nothing else."""

import subprocess
from pathlib import Path

from local import node
from local.node.images import StaticImage

BUSYBOX = Path("/bin/busybox")
INSTALL_SECONDS = 900


def image() -> StaticImage:
    """The image, with busybox installed on this machine if need be."""
    if not BUSYBOX.exists():
        subprocess.run(
            ["apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "--yes", "busybox-static"],
            capture_output=True,
            check=True,
            timeout=INSTALL_SECONDS,
        )
    return StaticImage(name="toolbox", program=BUSYBOX.resolve())


def bring_in(directory: Path) -> str:
    """Puts the image on the node; its reference."""
    archive = directory / "toolbox.tar"
    image().write(archive)
    node.import_images([archive])
    return image().reference
