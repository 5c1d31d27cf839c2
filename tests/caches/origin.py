"""A stand-in for a Stratum-1: small objects that never change, each answered after a while, and counted."""

import asyncio
from collections import Counter
from types import TracebackType

from aiohttp import web

ANSWER_SECONDS = 0.02  # a server elsewhere on the continent
OBJECT_BYTES = 8 * 1024
MAX_AGE_SECONDS = 259200  # what a Stratum-1 says of objects


class Origin:
    """The server, for as long as it is entered.

    Attributes:
        fetches: how often each path was asked for.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self.fetches: Counter[str] = Counter()
        self._host, self._port = host, port

    async def __aenter__(self) -> "Origin":
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._runner.addresses[0][1])

    def fetched(self, prefix: str) -> int:
        """How many fetches began with this path."""
        return sum(count for path, count in self.fetches.items() if path.startswith(prefix))

    async def _answer(self, request: web.Request) -> web.Response:
        self.fetches[request.path] += 1
        await asyncio.sleep(ANSWER_SECONDS)
        return web.Response(
            body=body(request.path), headers={"Cache-Control": f"max-age={MAX_AGE_SECONDS}", "ETag": '"1"'}
        )


def body(path: str) -> bytes:
    """What is at this path: told by its name, so that a wrong answer is known."""
    return (path.encode() + b"\n") * (OBJECT_BYTES // (len(path) + 1))
