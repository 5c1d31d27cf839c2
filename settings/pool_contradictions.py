"""What no cloud could make of a machine type or of the nodes' network, told before anything is made."""

import difflib
import ipaddress
from collections.abc import Callable, Iterator, Mapping

from components.cluster.machines import Cloud, Machine, Room, machines
from components.startds import LOGS_MIB
from settings.clouds import JobPool
from settings.values import overlap
from settings.workload import Cvmfs, Startds

_NEAR = 3
# Of the disk that nodes start from, for the OS and its logs beside the cache of CVMFS.
_OS_GIB = 40


def unknown_size(cloud: Cloud, path: str, size: str) -> Iterator[str]:
    """A machine type that the cloud's table does not have."""
    known = machines(cloud)
    if size not in known:
        near = difflib.get_close_matches(size, known, n=_NEAR) or list(known)[:_NEAR]
        yield (
            f"{path} is {size}, which components/cluster/machines_{cloud}.json does not know: "
            f"take one like {' or '.join(near)}, or add its line"
        )


def nearest(cloud: Cloud, size: str, fits: Callable[[Machine], object]) -> str:
    """The machine type with a name as near as can be, of those that fit."""
    names = [name for name, machine in machines(cloud).items() if fits(machine)]
    return difflib.get_close_matches(size, names, n=1, cutoff=0)[0]


def too_small(path: str, size: str, room: Room, startds: Startds) -> Iterator[str]:
    """A machine type on which not one startd fits: the autoscaler would never make a node for it."""
    for key, one, most, more in (
        ("requestedCores", startds.requested_cores or startds.cores, room.cores, ""),
        ("memoryMib", startds.memory_mib, room.memory_mib, ""),
        ("diskMib", startds.disk_mib + LOGS_MIB, room.disk_mib, " with its logs"),
    ):
        if one > most:
            yield (
                f"{path}.size is {size}, too small for one startd: its startds.{key} takes {one:g}{more}, and "
                f"pods may request {most:g} of a node at most; take a larger size, or a smaller startd"
            )


def too_large_cache(cvmfs: Cvmfs, disk_gib: int) -> Iterator[str]:
    """A cache of CVMFS that would fill the disk that nodes start from, which we size."""
    most = (disk_gib - _OS_GIB) * 1024
    if cvmfs.mode == "daemonset" and cvmfs.quota_mib > most:
        yield (
            f"cvmfs.quotaMib is {cvmfs.quota_mib}: the cache is on the disk of {disk_gib} GiB that nodes start from, "
            f"beside their OS; allowed: at most {most}"
        )


def taken_network(network: str, taken: Mapping[str, str]) -> Iterator[str]:
    """A network of the nodes that others have.

    Args:
        network: of the nodes, as a CIDR.
        taken: whose the other networks of the cluster are, and their CIDRs.
    """
    for what, other in taken.items():
        if overlap(network, other):
            yield f"cluster.network is {network}, and {what} have {other}: take another, as in 10.224.0.0/16"


def unpriced(path: str, pool: JobPool, list_price: float | None, startds: Startds) -> Iterator[str]:
    """A pool of which nobody knows what a node costs, where startds may cost so much: the limit would limit nothing."""
    if startds.limits.cost_per_hour is not None and pool.price_per_hour is None and list_price is None:
        yield (
            f"{path}.pricePerHour is missing: startds.limits.costPerHour needs to know what a startd costs, and the "
            f"table of machine types has no price of {pool.size}{' as spot' if pool.spot else ''}: give it, or leave "
            "the limit out"
        )


def wrong_network(network: str, *, nodes: int, kept: int, taken: Mapping[str, str]) -> Iterator[str]:
    """A network of the nodes that others have, or that has too few addresses.

    Args:
        network: of the nodes, as a CIDR.
        nodes: that there may be at once.
        kept: addresses that the cloud keeps of each subnet.
        taken: whose the other networks of the cluster are, and their CIDRs.
    """
    yield from taken_network(network, taken)
    there = max(0, ipaddress.ip_network(network).num_addresses - kept)
    if there < nodes:
        yield (
            f"cluster.network is {network}: it has {there} addresses for nodes, "
            f"of which there may be {nodes} in an upgrade; take a larger one"
        )
