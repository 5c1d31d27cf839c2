"""Many clients who read the same objects, each in an order of its own."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.caches.client import Client, NoProxyError
from tests.caches.origin import body

CLIENTS = 40
OBJECTS = 200


@dataclass
class Outcome:
    """What became of reads.

    Attributes:
        failed: URLs that nobody had, or that came with another's content.
        seconds: that each read took.
        half: set when as many reads are done as are to come.
    """

    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    half: asyncio.Event = field(default_factory=asyncio.Event)

    def within(self, share: float) -> float:
        """Seconds within which this share of the reads was done."""
        return sorted(self.seconds)[min(int(share * len(self.seconds)), len(self.seconds) - 1)]


@asynccontextmanager
async def clients(
    proxies: str, addresses: Mapping[str, str], *, shard: bool, count: int = CLIENTS
) -> AsyncIterator[list[Client]]:
    """As many nodes' clients as a test needs, each with connections of its own."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Client(proxies=proxies, addresses=addresses, shard=shard, choice=random.Random(seed))  # noqa: S311
            )
            for seed in range(count)
        ]


async def read(who: Sequence[Client], host: str, prefix: str, outcome: Outcome) -> None:
    """Each client reads each object once."""

    async def one(client: Client, seed: int) -> None:
        for number in random.Random(seed).sample(range(OBJECTS), k=OBJECTS):  # noqa: S311
            path = f"/{prefix}/{number}"
            began = time.monotonic()
            try:
                right = await client.read(url(host, path)) == body(path)
            except NoProxyError:
                right = False
            outcome.seconds.append(time.monotonic() - began)
            if not right:
                outcome.failed.append(path)
            if 2 * len(outcome.seconds) >= OBJECTS * len(who):
                outcome.half.set()

    await asyncio.gather(*(one(client, seed) for seed, client in enumerate(who)))


def url(host: str, path: str) -> str:
    """Of an object, as a client asks for it."""
    return f"http://{host}{path}"
