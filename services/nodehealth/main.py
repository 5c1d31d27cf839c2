"""The controller's loop: look at the nodes and at what StartdSets say of them, decide, act."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from services.health import serving
from services.kube import Access, Api, ApiError, ConflictError, Json, NotFoundError, from_kubeconfig, in_cluster
from services.lease import beside, candidate
from services.nodehealth.decide import decide
from services.nodehealth.metrics import Metrics
from services.nodehealth.model import Action, Cordon, Node
from services.nodehealth.monitor import monitor, task_of
from services.nodehealth.objects import blame_of, node_of, patch_of, pool_of, trimmed
from services.process import log
from services.rate import Rate
from services.vacuum.objects import sets_path
from services.vacuum.survey import POOLS, read_pools
from services.vacuum.watch import Cache

PORT = 8080
LEASE = "nodehealth"
# Nothing is urgent here, and nodes are few at a time.
RATE = Rate(per_second=2.0, burst=5)
TURN_SECONDS = 1.0
IDLE_SECONDS = 15.0
STUCK_SECONDS = 300.0
# What a node is given back after, where the stack says nothing.
QUIET_SECONDS = 1800.0


class Controller:
    """The nodes of one cluster, as far as one site uses them."""

    def __init__(
        self,
        api: Api,
        *,
        acts: bool,
        quiet: float,
        leads: Callable[[], bool] = lambda: True,
        pools: Path = POOLS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """A controller that has not looked yet.

        Args:
            api: in the namespace of the StartdSets.
            acts: or else it only tells what is wrong.
            quiet: seconds that a node is held at least.
            leads: whether it may act now.
            pools: the file of node pools.
            clock: POSIX seconds.
        """
        self._api = api
        self._acts = acts
        self._quiet = quiet
        self._leads = leads
        self._pools = pools
        self._clock = clock
        self._changed = asyncio.Event()
        self._nodes: Cache[Json] = Cache(api, "/api/v1/nodes", trimmed, self._changed)
        self._sets: Cache[Json] = Cache(api, sets_path(api.namespace), _blame_part, self._changed)
        self._said: tuple[object, ...] = ()
        self._turned = time.monotonic()
        self.metrics = Metrics(leads=leads)

    @property
    def fresh(self) -> bool:
        """Whether the views may be acted on."""
        return self._nodes.fresh and self._sets.fresh

    @property
    def turning(self) -> bool:
        """Whether the loop makes progress."""
        return time.monotonic() - self._turned < STUCK_SECONDS

    def look_again(self) -> None:
        """Something has changed that no watch tells."""
        self._changed.set()

    async def look(self) -> None:
        """Reads everything anew."""
        await self._nodes.refresh()
        await self._sets.refresh()

    async def run(self) -> None:
        """Turns for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._nodes.run())
            tasks.create_task(self._sets.run())
            tasks.create_task(self._turn_forever())

    async def _turn_forever(self) -> None:
        while True:
            self._changed.clear()
            await self.turn()
            self._turned = time.monotonic()
            await asyncio.sleep(TURN_SECONDS)
            try:
                await asyncio.wait_for(self._changed.wait(), timeout=IDLE_SECONDS)
            except TimeoutError:
                continue

    def nodes(self) -> list[Node] | None:
        """The nodes that are looked after; None if it is not known which."""
        try:
            # No pools at all means that no autoscaler adds nodes, not that there are none.
            pools = read_pools(self._pools) or None
        except ValueError as error:
            log(event="unusable", message=str(error))
            return None
        now, blame = self._clock(), blame_of(self._sets.objects.values())
        placed = [(kept, pool_of(kept["labels"], pools)) for kept in self._nodes.objects.values()]
        return [node_of(kept, pool, blame, now) for kept, pool in placed if pool is not None]

    async def turn(self) -> None:
        """Decides, and acts if we lead and may."""
        nodes = self.nodes()
        if nodes is None or not self.fresh:
            return
        decision = decide(nodes, now=self._clock(), quiet=self._quiet)
        self.metrics.nodes, self.metrics.verdicts = nodes, decision.verdicts
        said = (decision.verdicts, tuple(type(action).__name__ + action.node.name for action in decision.actions))
        if said != self._said and self._leads():
            for verdict in decision.verdicts:
                log(event="pool", pool=verdict.pool, nodes=verdict.nodes, bad=verdict.bad, away=verdict.away,
                    why=verdict.why)  # fmt: skip
            for action in decision.actions if not self._acts else ():
                log(event="would", action=type(action).__name__, node=action.node.name)
        self._said = said
        for action in decision.actions:
            if not (self._acts and self._leads()):
                return
            await self._carry_out(action)

    async def _carry_out(self, action: Action) -> None:
        what, node = type(action).__name__.lower(), action.node
        why = action.held.why if isinstance(action, Cordon) else node.held.why if node.held else ""
        try:
            self._nodes.put(await self._api.patch(f"/api/v1/nodes/{node.name}", patch_of(action)))
        except (ConflictError, NotFoundError):
            return  # it is another one than was judged; the watch will show it
        except ApiError as error:
            log(event="refused", action=what, node=node.name, status=error.status, message=str(error))
            return
        self.metrics.actions.labels(what, why).inc()
        log(event=what, node=node.name, pool=node.pool, why=why, signs=[sign.kind for sign in node.signs])


def _blame_part(raw: Json) -> Json:
    return {"status": {"blamedNodes": raw.get("status", {}).get("blamedNodes", [])}}


async def _control(access: Access, port: int, *, acts: bool, quiet: float) -> None:
    api = Api(access, rate=RATE, observe=lambda verb, code: controller.metrics.requests.labels(verb, code).inc())
    controller = Controller(api, acts=acts, quiet=quiet, leads=lambda: lease.held)
    lease = candidate(access, LEASE, changed=controller.look_again)
    registry = controller.metrics.registry
    try:
        async with serving(port, registry, healthy=lambda: controller.turning, ready=lambda: controller.fresh):
            await beside(lease, controller.run())
    finally:
        await api.close()


def main(words: Sequence[str] | None = None) -> None:
    """The command line: without words the controller, with `monitor` what runs on each node."""
    parser = argparse.ArgumentParser(prog="services.nodehealth", description="Takes bad nodes out of use.")
    parser.add_argument("--kubeconfig", type=Path, help="outside a cluster: the file that says how to reach it")
    parser.add_argument("--namespace", default=os.environ.get("NAMESPACE"), help="of the StartdSets; ours by default")
    parser.add_argument("--port", type=int, default=PORT, help="for probes and metrics")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("monitor", help="watch the node that this runs on")
    asked = parser.parse_args(words)
    access = from_kubeconfig(asked.kubeconfig) if asked.kubeconfig else in_cluster()
    if asked.namespace:
        access = access.in_namespace(asked.namespace)
    try:
        if asked.command == "monitor":
            asyncio.run(monitor(access, task_of(os.environ), asked.port))
            return
        quiet = float(os.environ.get("QUIET_SECONDS", QUIET_SECONDS))
        asyncio.run(_control(access, asked.port, acts=os.environ.get("MODE") == "cordon", quiet=quiet))
    except (OSError, ValueError) as error:
        sys.exit(f"services.nodehealth: {error}")
