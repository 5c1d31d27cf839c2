"""A stand-in for a CVMFS client's choice of proxy: what CERN documents of it, restated, for reads over plain HTTP.

As documented for `CVMFS_HTTP_PROXY`, `CVMFS_PROXY_SHARD`, `CVMFS_TIMEOUT`, `CVMFS_MAX_RETRIES`, `CVMFS_BACKOFF_INIT`
and `CVMFS_PROXY_RESET_AFTER`: the proxies of a group share objects by a hash ring, or one of them, taken at random,
serves all. One that does not answer within 5 s is asked once more after a pause, then left alone for 300 s while the
next on the ring takes its objects; when a group has nobody left the next group is asked: the VIP comes last. An answer
that bears `X-Squid-Error` is the proxy's failure, and not asked for again. What a real client does besides
(verification, its own cache, several servers) plays no part in who is asked.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp

from tests.caches import ring

TIMEOUT_SECONDS = 5.0
RETRIES = 1  # for each object, whoever is asked
BACKOFF_SECONDS = 2.0
RESET_SECONDS = 300.0


class NoProxyError(Exception):
    """No proxy of any group had the object."""


class _RefusedError(Exception):
    """A proxy answered that it has not got the object."""


@dataclass(kw_only=True)
class Client:
    """One node's client, with connections of its own that it keeps.

    Attributes:
        proxies: in the syntax of CVMFS_HTTP_PROXY.
        addresses: of the hosts in it, for who is not in the cluster and cannot ask its DNS.
        shard: as CVMFS_PROXY_SHARD.
        choice: of a proxy among equals, and of pauses.
        failures: requests that brought no object, whether or not another one did.
    """

    proxies: str
    addresses: Mapping[str, str]
    shard: bool
    choice: random.Random
    failures: int = 0
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
    def left(self) -> set[str]:
        """The proxies that it has left alone, so that others served their objects."""
        return set(self._failed)

    async def read(self, url: str) -> bytes:
        """An object, from whichever proxy has it first.

        Raises:
            NoProxyError: each was asked in vain.
        """
        retries = RETRIES
        for number, group in enumerate(groups(self.proxies, self.addresses)):
            alive = [proxy for proxy in group if self._failed.get(proxy, 0.0) <= time.monotonic()]
            while alive:
                proxy = ring.owner(alive, url) if self.shard else self._one_of(number, alive)
                try:
                    return await self._ask(proxy, url)
                except (aiohttp.ClientError, TimeoutError):
                    again, retries = retries > 0, retries - 1
                except _RefusedError:
                    again = False
                self.failures += 1
                if again:
                    await asyncio.sleep(self.choice.uniform(0, BACKOFF_SECONDS))
                else:
                    self._failed[proxy] = time.monotonic() + RESET_SECONDS
                    alive.remove(proxy)
        raise NoProxyError(url)

    def _one_of(self, number: int, alive: Sequence[str]) -> str:
        """The proxy that serves this group until it fails."""
        if self._chosen.get(number) not in alive:
            self._chosen[number] = self.choice.choice(alive)
        return self._chosen[number]

    async def _ask(self, proxy: str, url: str) -> bytes:
        async with self._session.get(url, proxy=proxy) as answer:
            body = await answer.read()
            if answer.status != 200 or "X-Squid-Error" in answer.headers:
                raise _RefusedError
            return body


def groups(proxies: str, addresses: Mapping[str, str]) -> list[list[str]]:
    """`|` joins proxies that share the load, `;` begins the group that is asked when those fail; names are resolved."""
    return [[_resolved(proxy, addresses) for proxy in group.split("|")] for group in proxies.split(";")]


def _resolved(proxy: str, addresses: Mapping[str, str]) -> str:
    host, _, port = proxy.removeprefix("http://").partition(":")
    return f"http://{addresses[host]}:{port}"
