"""Keeps what the cluster says of the room for startds up to date, as far as it may be read."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from services.kube import Api, DeniedError
from services.vacuum.cluster import (
    Budget,
    Cluster,
    Known,
    Node,
    NodePool,
    Quota,
    Range,
    budget_of,
    node_of,
    pools_of,
    quota_of,
    ranges_of,
)
from services.vacuum.payload import clock
from services.vacuum.watch import Cache

# The ConfigMap that the stack writes, mounted: the kubelet brings a new content within a minute or so.
POOLS = Path("/etc/atlas-sites/node-pools/pools.json")
# The ConfigMap that the accounting writes; its directory is there where the site has a budget.
BUDGET = Path("/etc/atlas-sites/budget/budget.json")

Kept = TypeVar("Kept")
Value = TypeVar("Value")


def read_pools(file: Path) -> tuple[NodePool, ...] | None:
    """The node pools that the stack wrote; None where it says nothing of them.

    Raises:
        ValueError: with a sentence, if the file cannot be used.
    """
    try:
        return pools_of(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"the ConfigMap node-pools cannot be used: {error}") from None


class Survey:
    """The facts, from watches. What may not be read is unknown, and nothing else waits for it."""

    def __init__(
        self,
        api: Api,
        changed: asyncio.Event,
        pools: Path = POOLS,
        budget: Path = BUDGET,
        clock: Callable[[], float] = time.time,
    ) -> None:
        spaced = f"/api/v1/namespaces/{api.namespace}"
        self._nodes: Cache[Node] = Cache(api, "/api/v1/nodes", node_of, changed)
        self._quotas: Cache[Quota] = Cache(api, f"{spaced}/resourcequotas", quota_of, changed)
        self._ranges: Cache[tuple[Range, ...]] = Cache(api, f"{spaced}/limitranges", ranges_of, changed)
        self._pools = pools
        self._budget = budget
        self._clock = clock

    async def run(self) -> None:
        """Follows them for ever."""
        async with asyncio.TaskGroup() as tasks:
            for cache in (self._nodes, self._quotas, self._ranges):
                tasks.create_task(cache.run())

    @property
    def cluster(self) -> Cluster:
        """All facts, as of now."""
        return Cluster(
            nodes=_known(self._nodes, list),
            quotas=_known(self._quotas, list),
            ranges=_known(self._ranges, lambda kept: [each for several in kept for each in several]),
            pools=self._known_pools(),
            budget=self._read_budget(),
        )

    def _known_pools(self) -> Known[tuple[NodePool, ...]]:
        try:
            pools = read_pools(self._pools)
        except ValueError as error:
            return Known(why=str(error))
        return Known(why="the stack does not say (pools of the site)") if pools is None else Known(value=pools)

    def _read_budget(self) -> Known[Budget] | None:
        """What the accounting said last; None where it has nothing to say."""
        if not self._budget.parent.is_dir():
            return None
        try:
            budget = budget_of(json.loads(self._budget.read_text()))
        except FileNotFoundError:
            return Known(why="the accounting has not said yet what may be spent")
        except (OSError, ValueError) as error:
            return Known(why=f"the ConfigMap budget cannot be used: {error}")
        if self._clock() >= budget.until:
            return Known(value=budget, stale=True, why=f"the accounting has said nothing since {clock(budget.until)}")
        return Known(value=budget)


def _known(cache: Cache[Kept], some: Callable[[list[Kept]], list[Value]]) -> Known[list[Value]]:
    why = _failure(cache)
    if not cache.loaded:
        return Known(why=why or "they have not been read yet")
    if cache.fresh:
        return Known(value=some(list(cache.objects.values())))
    return Known(
        value=some(list(cache.objects.values())),
        stale=True,
        why=why or "the API server has not spoken of them for long",
    )


def _failure(cache: Cache[Kept]) -> str:
    if isinstance(cache.failure, DeniedError):
        return f"{cache.failure.message}; let the controller's role list and watch them"
    return str(cache.failure or "")
