"""The hub: it listens to the sites of the stack on one port, and shows what they said on another.

Sites come in by the network. People come in by `kubectl port-forward`, which the cluster lets only those do whom it
knows and allows to: the pages listen on the pod's loopback, so that there is no other way.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from services.environment import needed
from services.health import serving
from services.portal.gate import Gate
from services.portal.metrics import Metrics
from services.portal.pages import Pages
from services.portal.push import application
from services.portal.store import Store, Unusable
from services.process import log, until_told

LOOPBACK = "127.0.0.1"
# Of a connection without a whole request, or between two.
IDLE_SECONDS = 75.0
SHUTDOWN_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the hub is told by its environment, which its Deployment sets.

    Attributes:
        sites: names of all of the stack.
        store: the file.
        tokens: the directory with a digest of each site's token.
        push_port, pages_port: to listen on, the second on the loopback only.
        port: to tell the health on.
    """

    sites: tuple[str, ...]
    store: Path
    tokens: Path
    push_port: int
    pages_port: int
    port: int


def options(environment: Mapping[str, str]) -> Options:
    """What the environment says.

    Raises:
        ValueError: one sentence about a variable that cannot be used.
    """
    text = partial(needed, environment)
    return Options(
        sites=tuple(text("SITES", r"[a-z0-9-]+(,[a-z0-9-]+)*", "cern,hall").split(",")),
        store=Path(text("STORE", r"/.+", "/var/lib/atlas-sites/portal.db")),
        tokens=Path(text("TOKENS", r"/.+", "/etc/atlas-sites/sites")),
        push_port=int(text("PUSH_PORT", r"[0-9]{1,5}", "8081")),
        pages_port=int(text("PAGES_PORT", r"[0-9]{1,5}", "8090")),
        port=int(environment.get("PORT", "8080")),
    )


async def serve(told: Options) -> None:
    """Listens and shows for ever."""
    store = Store(told.store)
    known = store.all(told.sites)
    metrics = Metrics(told.sites, known, time.time)
    pushes = web.AppRunner(
        application(Gate(told.tokens), store, known, metrics), access_log=None, keepalive_timeout=IDLE_SECONDS
    )
    pages = web.AppRunner(Pages(told.sites, known).application(), access_log=None, keepalive_timeout=IDLE_SECONDS)
    turned = time.monotonic()
    try:
        for runner, host, port in ((pushes, None, told.push_port), (pages, LOOPBACK, told.pages_port)):
            await runner.setup()
            await web.TCPSite(runner, host, port, shutdown_timeout=SHUTDOWN_SECONDS).start()
        async with serving(
            told.port, metrics.registry, healthy=lambda: time.monotonic() - turned < 60, ready=lambda: True
        ):
            log(event="started", sites=len(told.sites), known=len(known))
            while True:
                turned = time.monotonic()
                await asyncio.sleep(1)
    finally:
        for runner in (pushes, pages):
            await runner.cleanup()
        store.close()


def main() -> None:
    """The hub as a process."""
    try:
        asyncio.run(until_told(serve(options(os.environ))))
    except (ValueError, Unusable) as error:
        sys.exit(f"portal: {error}")
