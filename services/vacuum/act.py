"""Carries out a decision. Every step may be repeated: a name that exists, an object that is gone are successes."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from services.events import announce
from services.kube import (
    AlreadyExistsError,
    Api,
    ApiError,
    ConflictError,
    DeniedError,
    InvalidError,
    Json,
    NotFoundError,
)
from services.vacuum.model import (
    DRAIN_FINALIZER,
    OUTCOME_FINALIZER,
    REQUESTED_ANNOTATION,
    RETRY_ANNOTATION,
    SET_LABEL,
    Action,
    ClearRetry,
    Create,
    Denial,
    HoldSet,
    Orphan,
    Pod,
    Reason,
    Release,
    ReleaseSet,
    Retire,
    Status,
    Stop,
)
from services.vacuum.objects import new_pod, pods_path, sets_path, status_json

# The rate of writes is what spares an API server; this is only not to be the bound before it.
AT_ONCE = 64
# A pod that we made shows in the watch within moments; if it has not by then, it is made again, or found.
UNSEEN_SECONDS = 60.0
DENIED_FIRST_SECONDS = 5.0
DENIED_LONGEST_SECONDS = 300.0


class DeposedError(Exception):
    """We do not lead any more: whatever was decided is left to the one who does."""


class Actor:
    """The writing side.

    It remembers only what saves calls: which names it has made a moment ago, and how long a refusal is to be obeyed.
    """

    def __init__(
        self, api: Api, clock: Callable[[], float] = time.time, leads: Callable[[], bool] = lambda: True
    ) -> None:
        self._api = api
        self._clock = clock
        self._leads = leads
        self._made: dict[str, float] = {}
        self._denials: dict[str, tuple[Denial, float, str]] = {}

    def denial(self, uid: str, template: str) -> Denial | None:
        """The refusal that a set with this template lives under, if any."""
        denial, _, denied = self._denials.get(uid, (None, 0.0, ""))
        return denial if denied == template else None

    async def write_status(self, startdset: Json, status: Status) -> Json:
        """The set as it is once its status is written.

        Raises:
            ConflictError: the set has changed since it was read; what was decided on it must not be done.
            DeposedError: another one leads, or may.
        """
        self._check()
        meta = startdset["metadata"]
        body = {**startdset, "status": status_json(status, startdset.get("status", {}), self._clock())}
        return await self._api.update(f"{sets_path(meta['namespace'], meta['name'])}/status", body)

    async def carry_out(self, startdset: Json, actions: Iterable[Action], template: str) -> None:
        """Does what was decided.

        Of the creates one goes out first, then 2, then 4 and so on, so that a refusal costs few calls.

        Raises:
            ApiError: the first that was not a success in disguise; the rest of the actions were tried too.
        """
        namespace = startdset["metadata"]["namespace"]
        creates = deque(action for action in actions if isinstance(action, Create))
        others = [action for action in actions if not isinstance(action, Create)]
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(action: Action) -> None:
            async with gate:
                self._check()
                await self._do(startdset, namespace, action)

        async def next_ones(most: int) -> None:
            for _ in range(most):
                if creates:
                    self._check()
                    try:
                        await self._create(startdset, creates.popleft(), template)
                    except BaseException:
                        creates.clear()  # what this one was refused for, the next ones would be too
                        raise

        await _all(map(one, others))
        now = self._clock()
        self._made = {name: at for name, at in self._made.items() if now - at < UNSEEN_SECONDS}
        at_once = 1
        while at_once < AT_ONCE:
            await _all(next_ones(1) for _ in range(at_once))
            at_once *= 2
        await _all(next_ones(len(creates)) for _ in range(AT_ONCE))

    def _check(self) -> None:
        if not self._leads():
            raise DeposedError

    async def announce(self, startdset: Json, status: Status) -> None:
        """Writes an Event about a new state."""
        await announce(
            self._api,
            startdset,
            component="vacuum",
            reason=str(status.state),
            message=status.message,
            warning=status.state in {"Invalid", "Blind"},
            now=self._clock(),
        )

    async def release(self, namespace: str, action: Release) -> None:
        """Takes our finalizer off a pod and deletes it."""
        pod, path = action.pod, pods_path(namespace, action.pod.name)
        if pod.held:
            await self._let_go(namespace, pod, {})
        if pod.deadline is None:
            await _unless_gone(self._api.delete(path, uid=pod.uid), NotFoundError, ConflictError)

    async def _do(self, startdset: Json, namespace: str, action: Action) -> None:
        match action:
            case Stop():
                await self._stop(namespace, action)
            case Retire():
                await self._ask(namespace, action.pod, Reason.PEACEFUL)
            case Orphan():
                await self._let_go(namespace, action.pod, {"ownerReferences": []})
            case Release():
                await self.release(namespace, action)
            case HoldSet():
                await self._edit(startdset, finalizers=[*_finalizers(startdset), DRAIN_FINALIZER])
            case ReleaseSet():
                await self._release_set(startdset)
            case ClearRetry():
                await self._edit(startdset, annotations={RETRY_ANNOTATION: None})
            case Create():
                raise TypeError("creates go out in batches")

    async def _create(self, startdset: Json, action: Create, template: str) -> None:
        meta = startdset["metadata"]
        key, now = f"{meta['uid']}/{action.sequence}", self._clock()
        if key in self._made:
            return
        try:
            await self._api.create(pods_path(meta["namespace"]), new_pod(startdset, action))
        except AlreadyExistsError:
            pass
        except (DeniedError, InvalidError) as error:
            _, pause, denied = self._denials.get(meta["uid"], (None, 0.0, ""))
            pause = min(DENIED_LONGEST_SECONDS, 2 * pause) if pause and denied == template else DENIED_FIRST_SECONDS
            denial = Denial(message=error.message, until=now + pause, invalid=isinstance(error, InvalidError))
            self._denials[meta["uid"]] = (denial, pause, template)
            raise
        self._denials.pop(meta["uid"], None)
        self._made[key] = now

    async def _stop(self, namespace: str, action: Stop) -> None:
        pod, path = action.pod, pods_path(namespace, action.pod.name)
        if pod.requested in {None, Reason.PEACEFUL}:
            await self._ask(namespace, pod, action.reason)
        deletion = self._api.delete(path, uid=pod.uid, grace_seconds=action.grace_seconds)
        await _unless_gone(deletion, NotFoundError, ConflictError)

    async def _ask(self, namespace: str, pod: Pod, reason: Reason) -> None:
        body = {"metadata": {"uid": pod.uid, "annotations": {REQUESTED_ANNOTATION: str(reason)}}}
        await _unless_gone(self._api.patch(pods_path(namespace, pod.name), body), NotFoundError)

    async def _let_go(self, namespace: str, pod: Pod, metadata: Json) -> None:
        rest = [name for name in pod.finalizers if name != OUTCOME_FINALIZER]
        body = {"metadata": {"uid": pod.uid, "resourceVersion": pod.version, "finalizers": rest, **metadata}}
        await _unless_gone(self._api.patch(pods_path(namespace, pod.name), body), NotFoundError)

    async def _release_set(self, startdset: Json) -> None:
        meta = startdset["metadata"]
        selector = f"{SET_LABEL}={meta['name']}"
        finalizers, _ = await self._api.list(pods_path(meta["namespace"]), _finalizers, selector=selector)
        # One that was made just before the end may not have shown yet; without us nobody would take its finalizer off.
        if not any(OUTCOME_FINALIZER in some for some in finalizers):
            await self._edit(startdset, finalizers=[n for n in _finalizers(startdset) if n != DRAIN_FINALIZER])

    async def _edit(self, startdset: Json, **metadata: object) -> None:
        meta = startdset["metadata"]
        body = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], **metadata}}
        await _unless_gone(self._api.patch(sets_path(meta["namespace"], meta["name"]), body), NotFoundError)


def _finalizers(raw: Json) -> list[str]:
    return list(raw["metadata"].get("finalizers", ()))


async def _all(calls: Iterable[Awaitable[None]]) -> None:
    """All of them to their end; then the first failure, if there was one."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def _unless_gone(call: Awaitable[Json], *fine: type[ApiError]) -> None:
    try:
        await call
    except fine:
        return
