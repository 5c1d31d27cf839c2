"""How fast a client may write: so many at once, so many a second, and not at all while the server asks for a pause."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A token bucket's size.

    Attributes:
        per_second: writes, on average.
        burst: writes at once after a rest.
    """

    per_second: float
    burst: int


class Limiter:
    """One bucket for all writes of a client; whoever waits is served in the order of his coming."""

    def __init__(
        self,
        rate: Rate,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._full = clock()  # when the bucket would be full if nobody took anything more
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Until one more write may go out."""
        async with self._turn:
            now = self._clock()
            self._full = max(self._full, now) + 1 / self._rate.per_second
            pause = self._full - now - self._rate.burst / self._rate.per_second
            if pause > 0:
                await self._sleep(pause)

    def pause(self, seconds: float) -> None:
        """The server is overloaded: no write goes out for so long."""
        self._full = max(self._full, self._clock() + seconds + (self._rate.burst - 1) / self._rate.per_second)
