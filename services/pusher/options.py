"""What the pusher is told by its environment, which its Deployment sets."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.environment import needed
from services.pusher.trust import believing


@dataclass(frozen=True, kw_only=True)
class Options:
    """All of it.

    Attributes:
        site: the site's name.
        atlas_site: by which the experiment knows it.
        hub: the hub's address, without a path.
        trust: who may sign its certificate, as aiohttp takes it.
        token: the file with the site's write token.
        credentials: where the refresher tells its metrics.
        accounting: where the books tell theirs; empty if the site keeps none.
        squids: where each squid tells its own, by its name.
        seconds: between two reports.
        port: to tell the health on.
    """

    site: str
    atlas_site: str
    hub: str
    trust: ssl.SSLContext | bool
    token: Path
    credentials: str
    accounting: str
    squids: Mapping[str, str]
    seconds: int
    port: int


def options(environment: Mapping[str, str]) -> Options:
    """What the environment says.

    Raises:
        ValueError: one sentence about a variable that cannot be used.
    """
    text = partial(needed, environment)
    address = r"https?://[^\s,=]+"
    squids = text("SQUIDS", rf"([a-z0-9-]+={address},?)*", "squid-0=http://squid-0:9301/metrics")
    return Options(
        site=text("SITE", r"[a-z0-9-]+", "cern"),
        atlas_site=text("ATLAS_SITE", r"[A-Za-z0-9][A-Za-z0-9_.-]*", "CERN-PROD"),
        hub=text("HUB", address, "https://portal.example.org").rstrip("/"),
        trust=believing(environment.get("AUTHORITY", "")),
        token=Path(text("TOKEN", r"/.+", "/etc/atlas-sites/token/token")),
        credentials=text("CREDENTIALS", address, "http://credentials:8080/metrics"),
        accounting=text("ACCOUNTING", rf"({address})?", "http://accounting:8080/metrics"),
        squids=dict(pair.split("=", 1) for pair in squids.split(",") if pair),
        seconds=int(text("SECONDS", r"[1-9][0-9]{0,3}", "30")),
        port=int(environment.get("PORT", "8080")),
    )
