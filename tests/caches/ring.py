"""Whose an object is among proxies that share the load, restated from CVMFS's own source (cvmfs/network/download.cc).

A proxy has 16 points on a ring of 32 bits (`kProxyMapScale`), drawn by the generator of cvmfs/util/prng.h from the hash
of its address: a URL in which the name has been resolved. An object is served by the proxy of the first point that is
not before the object's own, the first 32 bits of its hash; what lies after the last point is the first one's. A proxy
that leaves gives its part to the others, and nothing of theirs moves. Sixteen points are few: the parts differ much.
"""

import bisect
import functools
import hashlib
from collections.abc import Sequence

POINTS = 16
TOP = 0xFFFFFFFF
# Knuth's generator MMIX, of 64 bits.
FACTOR = 6364136223846793005
SUMMAND = 1442695040888963407


def owner(proxies: Sequence[str], url: str) -> str:
    """The proxy, of those that are there, that is asked for the object."""
    places, owners = _ring(tuple(proxies))
    return owners[bisect.bisect_left(places, place(url))]


def points(proxy: str) -> list[int]:
    """Where a proxy stands on the ring."""
    state = place(proxy)
    drawn = []
    for _ in range(POINTS):
        state = (FACTOR * state + SUMMAND) % 2**64
        drawn.append(int(float(state) * float(TOP) / float(2**64)) % TOP)
    return drawn


def place(text: str) -> int:
    """The first 32 bits of a hash. An object's is that of its content for a real client, of its URL for ours."""
    return int.from_bytes(hashlib.sha1(text.encode(), usedforsecurity=False).digest()[:4])


@functools.cache
def _ring(proxies: tuple[str, ...]) -> tuple[list[int], list[str]]:
    owners: dict[int, str] = {}
    for proxy in proxies:
        for point in points(proxy):
            owners.setdefault(point, proxy)
    owners.setdefault(TOP, owners[min(owners)])
    places = sorted(owners)
    return places, [owners[point] for point in places]
