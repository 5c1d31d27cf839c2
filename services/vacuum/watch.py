"""Keeps a copy of one kind of objects, fed by a watch, that knows how fresh it is."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from services.kube import Api, ApiError, DeniedError, GoneError, Json

Kept = TypeVar("Kept")

# Longer than the silence after which a watch is given up, so that this ends it only if nothing else did.
STALE_SECONDS = 120.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
# What may not be read will not be allowed by asking often.
LONGEST_DENIED_PAUSE_SECONDS = 300.0


class Cache(Generic[Kept]):
    """Objects by name, trimmed on receipt.

    Attributes:
        objects: as the API server told us last.
        loaded: they have been read at least once.
        failure: why they were not read the last time it was tried; None if they were.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        trim: Callable[[Json], Kept],
        changed: asyncio.Event,
        *,
        selector: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.objects: dict[str, Kept] = {}
        self.loaded = False
        self.failure: ApiError | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._versions: dict[str, int] = {}
        self._api = api
        self._path = path
        self._trim = trim
        self._changed = changed
        self._selector = selector
        self._clock = clock
        self._contact: float | None = None

    @property
    def staleness(self) -> float:
        """Seconds since the API server said anything; infinite while it is out of reach."""
        return float("inf") if self._contact is None else self._clock() - self._contact

    @property
    def fresh(self) -> bool:
        """Whether one may act on what is here."""
        return self.staleness < STALE_SECONDS

    async def run(self) -> None:
        """Follows the objects for ever."""
        while True:
            try:
                version = await self.refresh()
                while True:
                    version = await self._follow(version)
            except GoneError:
                continue
            except ApiError as error:
                self._contact = None
                self.failure = error
                self._changed.set()
                denied = isinstance(error, DeniedError)
                longest = LONGEST_DENIED_PAUSE_SECONDS if denied else LONGEST_PAUSE_SECONDS
                self._pause = min(longest, self._pause)
                await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311  spreads clients, guards nothing
                self._pause *= 2

    def put(self, raw: Json) -> bool:
        """Takes an object over, unless a newer one is here: the reply to our own write may overtake the watch.

        Whether that changed anything that is kept; a node tells the time every few minutes, and nothing else.

        Resource versions of one kind compare as numbers; Kubernetes documents that since 1.35, etcd always had it so.
        """
        name, version, kept = self._entry(raw)
        if version < self._versions.get(name, 0):
            return False
        self._versions[name] = version
        if name in self.objects and self.objects[name] == kept:
            return False
        self.objects[name] = kept
        return True

    async def refresh(self) -> str:
        """Reads all objects; the resource version to watch from."""
        items, version = await self._api.list(self._path, self._entry, selector=self._selector)
        self._versions = {name: version for name, version, _ in items}
        self.objects.clear()
        self.objects.update({name: kept for name, _, kept in items})
        self._contact = self._clock()
        self.loaded, self.failure = True, None
        self._changed.set()
        return version

    def _entry(self, raw: Json) -> tuple[str, int, Kept]:
        return raw["metadata"]["name"], int(raw["metadata"]["resourceVersion"]), self._trim(raw)

    async def _follow(self, version: str) -> str:
        async with aclosing(self._api.watch(self._path, version, selector=self._selector)) as events:
            async for kind, raw in events:
                self._pause = FIRST_PAUSE_SECONDS
                version = raw["metadata"]["resourceVersion"]
                self._contact = self._clock()
                if kind == "DELETED":
                    self.objects.pop(raw["metadata"]["name"], None)
                    self._versions.pop(raw["metadata"]["name"], None)
                    self._changed.set()
                elif kind != "BOOKMARK" and self.put(raw):
                    self._changed.set()
        return version
