"""Where the programs of the control plane are: built as the local site's are, and etcd from the system's package."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from local import tools
from local.progress import Progress


def programs() -> Mapping[str, Path]:
    """By name.

    Raises:
        SystemExit: with a sentence, if this machine has no etcd.
    """
    etcd = shutil.which("etcd")
    if etcd is None:
        sys.exit("etcd is not on this machine: `make up` installs it, or the package etcd-server does")
    progress = Progress(0)
    built = [tools.build(tools.TOOLS[name], progress) for name in ("kubernetes", "kwok")]
    return {"etcd": Path(etcd)} | {path.name: path for directory in built for path in directory.iterdir()}
