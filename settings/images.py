"""Where a stack's images come from."""

import json
import os
from pathlib import Path

from pydantic import TypeAdapter

from settings.parse import parsed
from settings.values import Closed, CvmfsImage, Digest, Registry

DEV_STACK = "dev"
IMAGE_NAMES = ("startd", "squid", "services", "timeseries", "cvmfs")


class Digests(Closed):
    """The images of a release, by digest."""

    startd: Digest
    squid: Digest
    services: Digest
    timeseries: Digest
    cvmfs: CvmfsImage


class Published(Closed):
    """Images in a registry."""

    registry: Registry
    digests: Digests


class Images(Closed):
    """A full reference for each image."""

    startd: str
    squid: str
    services: str
    timeseries: str
    cvmfs: str


def images_of(raw: str | None, stack: str) -> tuple[Images | None, list[str]]:
    """The images, or one sentence for each mistake.

    Args:
        raw: the key `images`, as text or JSON.
        stack: its name: only one of them may use what was built on this machine.
    """
    if raw is None:
        return None, [
            (
                "images is missing: write `images: local` in stack dev, "
                "elsewhere the block that `make images PUSH=<registry>` prints."
            )
        ]
    if raw == "local":
        if stack != DEV_STACK:
            return None, [
                (
                    f"images is local, which only stack {DEV_STACK} may use: "
                    "publish them with `make images PUSH=<registry>` and paste the block it prints."
                )
            ]
        return _built_images()
    if not raw.startswith("{"):
        return None, [f"images is {raw!r}; allowed: local (in stack {DEV_STACK}), or a block of registry and digests."]
    published, found = parsed(TypeAdapter(Published), Published, raw, "images")
    if published is None:
        return None, found
    digests = published.digests
    own = {name: f"{published.registry}/{name}@{getattr(digests, name)}" for name in IMAGE_NAMES}
    if "@" in digests.cvmfs:
        own["cvmfs"] = digests.cvmfs
    return Images(**own), []


def _built_images() -> tuple[Images | None, list[str]]:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    file = Path(os.environ.get("ATLAS_SITES_IMAGES") or state / "atlas-sites" / "images.json")
    try:
        built = json.loads(file.read_text())
        return Images(**{name: built[name] for name in IMAGE_NAMES}), []
    except FileNotFoundError:
        return None, [f"images is local, but none have been built here ({file} is missing): run `make up`."]
    except (OSError, ValueError, KeyError, TypeError):
        return None, [f"images is local, but {file} does not name all of {', '.join(IMAGE_NAMES)}: run `make up`."]
