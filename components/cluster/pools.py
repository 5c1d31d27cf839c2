"""Node pools: how nodes for startds are told from others, and what the vacuum controller is told of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.cluster.machines import Room
from components.cluster.plan import JobPool


@dataclass(frozen=True, kw_only=True)
class Taint:
    """What keeps pods off a node that do not tolerate it."""

    key: str
    value: str
    effect: str


# On each node of a pool that we make: which pool and generation it is of, and that nothing but startds may go there.
LABEL = "atlas-sites.io/pool"
JOBS = Taint(key="atlas-sites.io/jobs", value="only", effect="NoSchedule")
# The name of the pool of squids and services.
SYSTEM = "system"


@dataclass(frozen=True, kw_only=True)
class NodePool:
    """Nodes of one shape.

    Attributes:
        name: of the pool.
        selector: labels that tell its nodes.
        taints: of its nodes.
        most: nodes that there may be.
        cores, memory_mib, disk_mib: that pods may request of one node, which is less than the machine has.
        pods: that one node takes.
        price_per_hour: of one node, in the currency of the site's budget; None if nobody says.
        spot: the cloud may take its nodes back at any time.
        retiring: it takes no more startds, and goes when the last one has ended.
    """

    name: str
    selector: Mapping[str, str]
    most: int
    cores: float
    memory_mib: int
    disk_mib: int
    pods: int
    taints: Sequence[Taint] = ()
    price_per_hour: float | None = None
    spot: bool = False
    retiring: bool = False

    def facts(self) -> dict[str, Any]:
        """As services/vacuum/cluster.py reads it."""
        price = {} if self.price_per_hour is None else {"pricePerHour": self.price_per_hour}
        return {
            "name": self.name,
            "selector": dict(self.selector),
            "max": self.most,
            "cores": self.cores,
            "memoryMib": self.memory_mib,
            "diskMib": self.disk_mib,
            "pods": self.pods,
            "taints": [asdict(taint) for taint in self.taints],
            "spot": self.spot,
            "retiring": self.retiring,
            **price,
        }


def promised(pool: JobPool, room: Room, *, taints: Sequence[Taint], list_price: float | None) -> NodePool:
    """What is known of a job pool that we make, before there is a node of it.

    Args:
        pool: as the stack says it.
        room: of one node.
        taints: of its nodes.
        list_price: of one node for an hour, which counts where the stack says none.
    """
    return NodePool(
        name=pool.full_name,
        selector={LABEL: pool.full_name},
        taints=taints,
        most=pool.most,
        cores=room.cores,
        memory_mib=room.memory_mib,
        disk_mib=room.disk_mib,
        pods=room.pods,
        price_per_hour=list_price if pool.price_per_hour is None else pool.price_per_hour,
        spot=pool.spot,
        retiring=pool.retiring,
    )
