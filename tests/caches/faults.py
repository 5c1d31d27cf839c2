"""What it costs that a squid is lost or hangs while many clients read."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.caches import client, reading, ring
from tests.caches.deployed import ENDPOINTS, ORIGIN, Deployed
from tests.caches.origin import Origin
from tests.caches.reading import OBJECTS, Outcome

# CVMFS's ring gives one of three squids more than two fifths in every second cluster: 16 points each are few. What is
# struck is the squid that has the most and no more than that.
MOST = 0.4
TWICE = 2  # objects that clients get the origin asked for once too often, by chance


@dataclass(frozen=True, kw_only=True)
class Victim:
    """The squid that something befalls.

    Attributes:
        index: its number.
        proxy: its address, as clients know it.
        held: objects that are its own where clients shard.
    """

    index: int
    proxy: str
    held: int


@dataclass(frozen=True, kw_only=True)
class Struck:
    """Reads by all clients, half of them after a squid was struck.

    Attributes:
        held: objects that are that squid's where clients shard.
        fetches: that the origin saw.
        bystanders: proxies that a client left though nothing was done to them.
        unnoticed: whether no client left the one that was struck.
    """

    held: int
    fetches: int
    outcome: Outcome
    bystanders: frozenset[str]
    unnoticed: bool


def chosen(addresses: Mapping[str, str], prefix: str) -> Victim:
    """Whom to strike while objects of this prefix are read."""
    ((*own,),) = client.groups("|".join(ENDPOINTS), addresses)
    held = Counter(ring.owner(own, reading.url(ORIGIN, f"/{prefix}/{number}")) for number in range(OBJECTS))
    victim = max((each for each in own if held[each] + TWICE <= MOST * OBJECTS), key=lambda each: held[each])
    return Victim(index=own.index(victim), proxy=victim, held=held[victim])


async def read(
    squids: Deployed,
    origin: Origin,
    proxies: str,
    prefix: str,
    *,
    strike: Callable[[int], None],
    mend: Callable[[int], None],
    shard: bool = True,
) -> Struck:
    """All clients read all objects; a squid is struck when half is read, and mended when all is."""
    addresses, outcome = squids.addresses(), Outcome()
    victim = chosen(addresses, prefix)
    async with reading.clients(proxies, addresses, shard=shard) as clients, asyncio.TaskGroup() as group:
        reads = group.create_task(reading.read(clients, ORIGIN, prefix, outcome))
        await outcome.half.wait()
        await asyncio.to_thread(strike, victim.index)
        await reads
    await asyncio.to_thread(mend, victim.index)
    left = frozenset(proxy for each in clients for proxy in each.left)
    return Struck(
        held=victim.held,
        fetches=origin.fetched(f"/{prefix}/"),
        outcome=outcome,
        bystanders=left - {victim.proxy},
        unnoticed=victim.proxy not in left,
    )
