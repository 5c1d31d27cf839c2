"""Where things lie on this machine: caches and state are outside the checkout, so a checkout stays clean."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def cache_dir() -> Path:
    """Downloads and builds, keyed by their pins: safe to delete, slow to make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atlas-sites"


def state_dir() -> Path:
    """What the local site is made of: passphrase, Pulumi state, certificates, the node; `make down` removes it."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "atlas-sites"
