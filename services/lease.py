"""Leader election by a Lease, so that a service may have a second replica and still act as one.

As client-go does it: who holds the Lease renews it; who does not waits until it has not changed for as long as it
lasts, by his own clock alone, since the clocks of two machines may differ by anything. The holder stops believing in it
well before that, by his own clock again.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from services.kube import Access, AlreadyExistsError, Api, ApiError, ConflictError, Json, NotFoundError
from services.process import log, until_told
from services.times import precise

# Of how long a Lease lasts: the holder believes in it for so long after he wrote it, and writes it so often.
BELIEF = 2 / 3
PACE = 2 / 15
SECONDS = 15.0
# And so long a call may take.
CALL_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A Lease as it was read.

    Attributes:
        record: what it says.
        since: when it was first seen to say so, on our own monotonic clock.
    """

    record: Json
    since: float


def free(seen: Seen, me: str, now: float) -> bool:
    """Whether I may take the Lease, or have it."""
    holder = seen.record.get("holderIdentity") or ""
    return holder in {"", me} or now >= seen.since + float(seen.record.get("leaseDurationSeconds", SECONDS))


class Lease:
    """One Lease, and whether we hold it."""

    def __init__(
        self,
        api: Api,
        name: str,
        me: str,
        *,
        seconds: float = SECONDS,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A Lease that is not held yet.

        Args:
            api: with time-outs that are short against `seconds`.
            name: of the Lease, in the namespace of `api`.
            me: a name that no other process has.
            seconds: that it lasts without being renewed, at least 1.
            changed: called when it is taken or lost.
            clock: monotonic.
        """
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases"
        self._name = name
        self._me = me
        self._seconds = seconds
        self._changed = changed
        self._clock = clock
        self._seen: Seen | None = None
        self._written: float | None = None

    @property
    def held(self) -> bool:
        """Whether nobody else can have it now."""
        return self._written is not None and self._clock() < self._written + BELIEF * self._seconds

    async def run(self) -> None:
        """Takes it when it is free and renews it, for ever."""
        while True:
            before = self.held
            await self.attempt()
            if self.held is not before:
                log(event="leads" if self.held else "follows", lease=self._name, identity=self._me)
                self._changed()
            await asyncio.sleep(PACE * self._seconds)

    async def attempt(self) -> None:
        """One try to take or to renew it; what fails is tried again."""
        try:
            async with asyncio.timeout(BELIEF * self._seconds):
                await self._attempt()
        except (ApiError, TimeoutError):
            return

    async def release(self) -> None:
        """Gives it up, so that the next one need not wait."""
        if not self.held or self._seen is None:
            return
        self._written = None
        try:
            async with asyncio.timeout(PACE * self._seconds):
                lease = await self._api.get(f"{self._path}/{self._name}")
                if lease["spec"].get("holderIdentity") == self._me:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._api.update(f"{self._path}/{self._name}", lease)
        except (ApiError, TimeoutError):
            return

    async def close(self) -> None:
        """Gives it up, and closes its connection."""
        await self.release()
        await self._api.close()

    async def _attempt(self) -> None:
        now = self._clock()  # before the call: the Lease may be older than its answer
        try:
            lease = await self._api.get(f"{self._path}/{self._name}")
        except NotFoundError:
            await self._create(now)
            return
        record = lease.get("spec", {})
        if self._seen is None or record != self._seen.record:
            self._seen = Seen(record=record, since=self._clock())
        if not free(self._seen, self._me, self._clock()):
            self._written = None
            return
        mine = record.get("holderIdentity") == self._me
        # One that was ours before this process began is not: its name would be another's.
        lease["spec"] = self._record(record, taken=not mine)
        try:
            lease = await self._api.update(f"{self._path}/{self._name}", lease)
        except ConflictError:
            self._written = None
            return
        self._seen, self._written = Seen(record=lease["spec"], since=self._clock()), now

    async def _create(self, now: float) -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._api.namespace},
            "spec": self._record({}, taken=True),
        }
        try:
            lease = await self._api.create(self._path, body)
        except AlreadyExistsError:
            return
        self._seen, self._written = Seen(record=lease["spec"], since=self._clock()), now

    def _record(self, before: Json, *, taken: bool) -> Json:
        stamp = precise(time.time())
        return {
            **before,
            "holderIdentity": self._me,
            "leaseDurationSeconds": max(1, round(self._seconds)),
            "renewTime": stamp,
            **(
                {"acquireTime": stamp, "leaseTransitions": before.get("leaseTransitions", 0) + bool(before)}
                if taken
                else {}
            ),
        }


def candidate(
    access: Access, name: str, *, seconds: float = SECONDS, changed: Callable[[], None] = lambda: None
) -> Lease:
    """This process's try for a Lease, with what `Lease` asks for.

    It has a connection of its own, and less patience: a renewal must not wait behind the writes of a large wave.
    """
    api = Api(access, call_seconds=CALL_SHARE * seconds)
    me = f"{socket.gethostname()}-{secrets.token_hex(4)}"  # a container that was restarted has its pod's name again
    return Lease(api, name, me, seconds=seconds, changed=changed)


async def beside(lease: Lease, work: Coroutine[object, object, None]) -> None:
    """Runs a service's loop and its Lease until it is told to stop; the next one need not wait then."""
    try:
        await until_told(_side_by_side(work, lease.run()))
    finally:
        await lease.close()


async def _side_by_side(*loops: Coroutine[object, object, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for loop in loops:
            tasks.create_task(loop)
