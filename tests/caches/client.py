"""A stand-in for a CVMFS client's choice of proxy: what CERN documents of it, restated, for reads over plain HTTP.

As documented for `CVMFS_HTTP_PROXY`, `CVMFS_PROXY_SHARD`, `CVMFS_TIMEOUT`, `CVMFS_MAX_RETRIES`, `CVMFS_BACKOFF_INIT`
and `CVMFS_PROXY_RESET_AFTER`: the proxies of a group share objects by a hash ring, or one of them, taken at random,
serves all. One that does not answer within 5 s is asked once more after a pause, then left alone for 300 s while the
next on the ring takes its objects; when a group has nobody left the next group is asked: the VIP comes last. An answer
that bears `X-Squid-Error` is the proxy's failure. What a real client does besides (verification, its own cache, several
servers) plays no part in who is asked.
"""

import asyncio
import bisect
import functools
import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

TIMEOUT_SECONDS = 5.0
RETRIES = 1
BACKOFF_SECONDS = 2.0
RESET_SECONDS = 300.0
POINTS = 16  # of each proxy on the ring, as in the client's own source


class NoProxyError(Exception):
    """No proxy of any group had the object."""


@dataclass(kw_only=True)
class Client:
    """One node's client, with connections of its own that it keeps.

    Attributes:
        proxies: in the syntax of CVMFS_HTTP_PROXY.
        addresses: of the hosts in it, for who is not in the cluster and cannot ask its DNS.
        shard: as CVMFS_PROXY_SHARD.
        choice: of a proxy among equals, and of pauses.
    """

    proxies: str
    addresses: Mapping[str, str]
    shard: bool
    choice: random.Random
    _session: aiohttp.ClientSession = field(init=False)
    _failed: dict[str, float] = field(default_factory=dict)
    _chosen: dict[int, str] = field(default_factory=dict)

    async def __aenter__(self) -> "Client":
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS), connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def left(self) -> bool:
        """Whether it has left a proxy alone, so that another one served its objects."""
        return bool(self._failed)

    async def read(self, url: str) -> bytes:
        """An object, from whichever proxy has it first.

        Raises:
            NoProxyError: each was asked in vain.
        """
        for number, group in enumerate(groups(self.proxies)):
            alive = [proxy for proxy in group if self._failed.get(proxy, 0.0) <= time.monotonic()]
            while alive:
                proxy = ring(alive, url) if self.shard else self._one_of(number, alive)
                body = await self._ask(proxy, url)
                if body is not None:
                    return body
                self._failed[proxy] = time.monotonic() + RESET_SECONDS
                alive.remove(proxy)
        raise NoProxyError(url)

    def _one_of(self, number: int, alive: Sequence[str]) -> str:
        """The proxy that serves this group until it fails."""
        if self._chosen.get(number) not in alive:
            self._chosen[number] = self.choice.choice(alive)
        return self._chosen[number]

    async def _ask(self, proxy: str, url: str) -> bytes | None:
        """What a proxy answers, asked twice if need be; none if it does not, or cannot."""
        host, _, port = proxy.removeprefix("http://").partition(":")
        for attempt in range(1 + RETRIES):
            if attempt:
                await asyncio.sleep(self.choice.uniform(0, BACKOFF_SECONDS))
            try:
                async with self._session.get(url, proxy=f"http://{self.addresses[host]}:{port}") as answer:
                    body = await answer.read()
                    if answer.status == 200 and "X-Squid-Error" not in answer.headers:
                        return body
            except (aiohttp.ClientError, TimeoutError):
                continue
        return None


def groups(proxies: str) -> list[list[str]]:
    """`|` joins proxies that share the load, `;` begins the group that is asked when those fail."""
    return [group.split("|") for group in proxies.split(";")]


def ring(proxies: Sequence[str], url: str) -> str:
    """Whose object this is: the next point on the ring after the object's own.

    A proxy that leaves gives its part to the others, and nothing of theirs moves.
    """
    points = _points(tuple(proxies))
    after = bisect.bisect(points, (_place(url), ""))
    return points[after % len(points)][1]


@functools.cache
def _points(proxies: tuple[str, ...]) -> list[tuple[int, str]]:
    return sorted((_place(f"{proxy} {point}"), proxy) for proxy in proxies for point in range(POINTS))


def _place(text: str) -> int:
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[:4])
