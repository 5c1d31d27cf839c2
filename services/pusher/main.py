"""The loop: twice a minute look at the site, and tell the hub all of it.

Each report is whole, so that one that is lost is made good by the next. The site only ever calls out; nobody calls in.
"""

import asyncio
import gzip
import os
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import aiohttp

from services.health import serving
from services.kube import NO_ANSWER, Access, Api, ApiError, Json, in_cluster
from services.portal.report import Event, Report, Startd, StartdSet
from services.process import log, until_told
from services.pusher import look
from services.pusher.metrics import Metrics
from services.pusher.options import Options, options
from services.pusher.trust import why
from services.vacuum.model import SET_LABEL
from services.vacuum.objects import pods_path, sets_path
from services.vacuum.watch import Cache

# A hub that stays away is asked again after twice the time, up to this.
LONGEST_PAUSE_SECONDS = 300.0
ASK_SECONDS = 5.0
PUSH_SECONDS = 20.0
# Of an answer: a sentence, or the page of a proxy in between.
ANSWER_BYTES = 500
METRICS_BYTES = 4 * 2**20
STUCK_SECONDS = 600.0
# Those of pods are told by the outcomes; what they complain of is of interest.
EVENTS = ("involvedObject.kind=StartdSet", "type=Warning")

Part = TypeVar("Part")


class Pusher:
    """One site's voice."""

    def __init__(self, api: Api, told: Options, *, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._told = told
        self._clock = clock
        changed = asyncio.Event()
        self._pods: Cache[Startd] = Cache(api, pods_path(api.namespace), look.startd_of, changed, selector=SET_LABEL)
        self._sets: Cache[StartdSet] = Cache(api, sets_path(api.namespace), look.set_of, changed)
        self._turned = time.monotonic()
        self._problem = ""
        self.metrics = Metrics(clock)

    @property
    def turning(self) -> bool:
        """Whether the loop makes progress."""
        return time.monotonic() - self._turned < STUCK_SECONDS

    async def run(self) -> None:
        """Tells the hub for ever."""
        # Not from the environment (trust_env): a proxy meant for payloads must not see the token.
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session, asyncio.TaskGroup() as tasks:
            for cache in (self._pods, self._sets):
                tasks.create_task(cache.run())
            tasks.create_task(self._tell_forever(session))

    async def look(self) -> None:
        """Reads everything anew, as is done at the start and whenever a watch has broken."""
        for cache in (self._pods, self._sets):
            await cache.refresh()

    async def _tell_forever(self, session: aiohttp.ClientSession) -> None:
        failures = 0
        while True:
            failures = 0 if await self.tell(session) else failures + 1
            self._turned = time.monotonic()
            pause = min(LONGEST_PAUSE_SECONDS, self._told.seconds * 2.0 ** min(10, max(0, failures - 1)))
            await asyncio.sleep(pause * random.uniform(0.9, 1))  # noqa: S311  spreads clients, guards nothing

    async def tell(self, session: aiohttp.ClientSession) -> bool:
        """Looks at the site and pushes a report; whether the hub took it."""
        report = await self.report(session)
        try:
            token = self._told.token.read_text().strip()
            content = await asyncio.to_thread(gzip.compress, report.written(), 5)
            async with session.put(
                f"{self._told.hub}/api/v1/sites/{self._told.site}",
                data=content,
                headers={
                    "Authorization": f"Bearer {token}",
                    "Content-Type": "application/json",
                    "Content-Encoding": "gzip",
                },
                ssl=self._told.trust,
                timeout=aiohttp.ClientTimeout(total=PUSH_SECONDS),
                allow_redirects=False,
            ) as response:
                self.metrics.pushes.labels(str(response.status)).inc()
                if response.status == 204:
                    self.metrics.taken = self._clock()
                    self._say("")
                    return True
                said = (await response.content.read(ANSWER_BYTES)).decode(errors="replace")
                self._say(f"the hub answers {response.status}: {' '.join(said.split())}")
        except NO_ANSWER as error:
            self.metrics.pushes.labels(type(error).__name__).inc()
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                said = why(error.certificate_error)
            else:
                said = f"no answer ({type(error).__name__}: {error})"
            self._say(f"{self._told.hub}: {said}")
        except (OSError, ValueError) as error:
            self._say(f"{self._told.token}: the token cannot be used ({error})")
        return False

    async def report(self, session: aiohttp.ClientSession) -> Report:
        """All that can be learnt now; what cannot is left out, and says so."""
        now, told, problems = self._clock(), self._told, list[str]()
        addresses = (told.credentials, told.accounting, *told.squids.values())
        events, (credentials, books, *squids) = await asyncio.gather(
            self._events(problems), asyncio.gather(*(_samples(session, address) for address in addresses))
        )
        if credentials is None:
            problems.append("the credentials service does not answer")
        if books is None and told.accounting:
            problems.append("the accounting service does not answer")
        for what, cache in (("startds", self._pods), ("sets", self._sets)):
            if not cache.fresh:
                problems.append(f"the {what} cannot be seen: {cache.failure or 'the API server is silent'}")
        return Report(
            site=told.site,
            atlas_site=told.atlas_site,
            time=now,
            sets=_all(self._sets),
            startds=_all(self._pods),
            events=events,
            squids=tuple(map(look.squid_of, told.squids, squids)),
            proxy=None if credentials is None else look.proxy_of(credentials, now),
            cost=None if books is None else look.cost_of(books),
            problems=tuple(problems),
        )

    async def _events(self, problems: list[str]) -> tuple[Event, ...] | None:
        found: list[Json] = []
        try:
            for fields in EVENTS:
                path = f"/api/v1/namespaces/{self._api.namespace}/events?fieldSelector={fields}"
                found += (await self._api.list(path, lambda raw: raw))[0]
        except ApiError as error:
            problems.append(f"the events cannot be seen: {error}")
            return None
        return look.events_of(found)

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            log(event="problem" if problem else "taken", **({"message": problem} if problem else {}))
        self._problem = problem


async def _samples(session: aiohttp.ClientSession, address: str) -> look.Samples | None:
    """What a service's metrics say; None if it does not answer, or there is none."""
    if not address:
        return None
    try:
        async with session.get(address, timeout=aiohttp.ClientTimeout(total=ASK_SECONDS)) as response:
            response.raise_for_status()
            return look.samples((await response.content.read(METRICS_BYTES)).decode())
    except (*NO_ANSWER, ValueError):
        return None


def _all(cache: Cache[Part]) -> tuple[Part, ...] | None:
    return tuple(cache.objects.values()) if cache.fresh else None


async def _serve(access: Access, told: Options) -> None:
    api = Api(access, observe=lambda verb, code: pusher.metrics.requests.labels(verb, code).inc())
    pusher = Pusher(api, told)
    try:
        # Ready without the hub: a hub that is away must not hold up what is deployed.
        async with serving(told.port, pusher.metrics.registry, healthy=lambda: pusher.turning, ready=lambda: True):
            await pusher.run()
    finally:
        await api.close()


def main() -> None:
    """The pusher as a process."""
    try:
        told = options(os.environ)
    except ValueError as error:
        sys.exit(f"pusher: {error}")
    asyncio.run(until_told(_serve(in_cluster(), told)))
