"""All traffic goes through the proxies of CVMFS_HTTP_PROXY: parsed, chosen, and reached by a relay on the loopback.

rclone knows one proxy for its whole life. The relay is that one; it hands each connection to a squid that answers.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONNECT_SECONDS = 2.0
AVOIDED_SECONDS = 30.0  # how long a proxy that did not answer is tried last
CHUNK_BYTES = 64 * 1024
DEFAULT_PORT = 3128

Address = tuple[str, int]

log = logging.getLogger(__name__)


def parse(text: str) -> tuple[tuple[Address, ...], ...]:
    """Reads a proxy list: `|` joins proxies that share the load, `;` begins the group that is asked when those fail.

    Raises:
        ValueError: it is empty, or an entry is not `http://host[:port]`; DIRECT is refused, for it would go past the
            squids.
    """
    groups = tuple(
        tuple(_address(entry.strip()) for entry in group.split("|")) for group in text.split(";") if group.strip()
    )
    if not groups:
        raise ValueError("CVMFS_HTTP_PROXY names no proxy")
    return groups


def _address(entry: str) -> Address:
    if entry == "DIRECT":
        raise ValueError("CVMFS_HTTP_PROXY says DIRECT, but this image never goes past the squids")
    parts = urlsplit(entry)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"CVMFS_HTTP_PROXY: {entry!r} is not of the form http://host:port")
    return parts.hostname, parts.port or DEFAULT_PORT


@dataclass
class Proxies:
    """Which proxy is tried first: one at random of the first group, then the rest of it, then the next group.

    Attributes:
        groups: as `parse` gives them.
        clock: seconds that never go back.
    """

    groups: tuple[tuple[Address, ...], ...]
    clock: Callable[[], float] = time.monotonic
    choice: random.Random = field(default_factory=random.Random)
    _failed: dict[Address, float] = field(default_factory=dict)

    def order(self) -> list[Address]:
        """All proxies; those that failed a short while ago come last, for they may be all there is."""
        ranked = [address for group in self.groups for address in self.choice.sample(group, k=len(group))]
        now = self.clock()
        return sorted(dict.fromkeys(ranked), key=lambda address: self._failed.get(address, now) > now)

    def failed(self, address: Address) -> None:
        """Remembers that this one did not answer."""
        self._failed[address] = self.clock() + AVOIDED_SECONDS


class Relay:
    """Hands each connection to the loopback on to a proxy that answers."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies

    async def listen(self) -> tuple[asyncio.Server, str]:
        """Begins to accept; the server, and its URL as a proxy."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await self._connect()
            if upstream is not None:
                await _join(reader, writer, *upstream)
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for host, port in self._proxies.order():
            try:
                return await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS)
            except (OSError, TimeoutError) as error:
                log.warning("proxy %s:%d does not answer (%s)", host, port, error or "time-out")
                self._proxies.failed((host, port))
        log.error("no proxy answers")
        return None


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    up_reader: asyncio.StreamReader,
    up_writer: asyncio.StreamWriter,
) -> None:
    """Carries bytes both ways until either side ends."""
    ways = [asyncio.create_task(_carry(reader, up_writer)), asyncio.create_task(_carry(up_reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        up_writer.close()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(CHUNK_BYTES):
            target.write(data)
            await target.drain()
