"""Where sites push to: a report is taken whole or refused in one sentence, and what a site said before stays."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping

from aiohttp import web

from services.portal.gate import Gate
from services.portal.metrics import Metrics
from services.portal.report import read
from services.portal.store import Heard, Store, Unusable
from services.process import log

# As JSON, unpacked: ten thousand startds are 1.2 MB.
MOST_BYTES = 16 * 2**20
# A report is read and checked in one go, in some ten times the memory that it has as JSON.
AT_ONCE = 2


def application(
    gate: Gate,
    store: Store,
    known: MutableMapping[str, Heard],
    metrics: Metrics,
    *,
    most_bytes: int = MOST_BYTES,
    clock: Callable[[], float] = time.time,
) -> web.Application:
    """Takes reports.

    Args:
        gate: knows tokens.
        store: where a report is written before it counts.
        known: what pages show.
        metrics: count.
        most_bytes: of a report, unpacked.
        clock: POSIX seconds.
    """
    turns = asyncio.Semaphore(AT_ONCE)

    async def take(request: web.Request) -> web.Response:
        site, named = gate.site_of(request.headers.get("Authorization", "")), request.match_info["site"]
        if site is None:
            return refused(401, "the token is nobody's: give the site's own as Authorization: Bearer")
        if site != named:
            return refused(403, f"the token is of another site than {named}: push with the site's own")
        async with turns:
            try:
                report = await asyncio.to_thread(read, await request.read())
            except web.HTTPRequestEntityTooLarge:
                return refused(413, f"the report is larger than {most_bytes // 2**20 or 1} MiB: nothing of it is taken")
            except ValueError as error:
                return refused(422, str(error))
            except web.RequestPayloadError:
                return refused(422, "this is no report: the body cannot be unpacked")
            if report.site != site:
                return refused(403, f"the report is of {report.site} and the token of {site}: nothing is taken")
            heard = Heard(at=clock(), report=report)
            try:
                await asyncio.to_thread(store.put, site, heard)
            except Unusable as error:
                log(event="problem", message=str(error))
                return refused(503, "the hub cannot write now: push again later")
            known[site] = heard
        metrics.pushes.labels("taken").inc()
        return web.Response(status=204)

    def refused(status: int, sentence: str) -> web.Response:
        metrics.pushes.labels(str(status)).inc()
        return web.Response(status=status, text=sentence + "\n")

    made = web.Application(client_max_size=most_bytes, middlewares=[plain])
    made.router.add_put("/api/v1/sites/{site}", take)
    return made


@web.middleware
async def plain(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answers are for programs: nothing of them is kept or guessed at."""
    response = await handler(request)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response
