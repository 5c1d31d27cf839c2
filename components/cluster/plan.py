"""What is said of a cluster that we make, whichever cloud makes it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """When the cloud may renew nodes: a day of the week by its English name, the hour in UTC, and for how many."""

    day: str
    start_hour_utc: int
    hours: int


@dataclass(frozen=True, kw_only=True)
class SystemPool:
    """The nodes of squids and services: their machine type and number."""

    size: str
    nodes: int


@dataclass(frozen=True, kw_only=True)
class JobPool:
    """Nodes for startds.

    Attributes:
        name: of the pool, which its generations share.
        generation: counts the changes that a cloud cannot make in place.
        size: the machine type.
        least, most: nodes; the cluster's autoscaler chooses.
        spot: the cloud may take nodes back at any time.
        retiring: it takes no more startds and may be deleted.
        price_per_hour: of one node; the table's list price by default.
    """

    name: str
    generation: int
    size: str
    least: int
    most: int
    spot: bool
    retiring: bool
    price_per_hour: float | None

    @property
    def full_name(self) -> str:
        """The name in the cloud, of at most 10 small letters and digits."""
        return f"{self.name}{self.generation}"


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """A cluster in any cloud.

    Attributes:
        site: the name that it bears for good.
        region: of the cloud.
        kubernetes_version: as in 1.34.
        network: of the nodes, as a CIDR.
        authorized_networks: from which the API server may be reached, as CIDRs.
        system_pool: for squids and services.
        drain_seconds: that a startd may take to leave; whatever removes a node waits so long where the cloud lets it.
    """

    site: str
    region: str
    kubernetes_version: str
    network: str
    authorized_networks: tuple[str, ...]
    system_pool: SystemPool
    drain_seconds: int
