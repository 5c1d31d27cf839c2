"""What Google Cloud or GKE would refuse, or silently do otherwise, told before anything is made."""

import difflib
import ipaddress
from collections.abc import Iterator

from components.cluster import gcp_nodes
from components.cluster.machines import machines
from components.startds import LOGS_MIB
from settings.clouds import GoogleCluster, GooglePool, GoogleSite
from settings.workload import Startds

# Google keeps four addresses of each subnet.
_KEPT_ADDRESSES = 4
_NEAR = 3


def google_contradictions(site: GoogleSite) -> Iterator[str]:
    """One sentence, without its full stop, for each combination of valid values that cannot work on GKE."""
    cluster = site.cluster
    yield from _place_contradictions(cluster)
    yield from _unknown_size("cluster.systemPool.size", cluster.system_pool.size)
    for index, pool in enumerate(site.job_pools):
        path = f"jobPools[{index}]"
        wrong = [*_unknown_size(f"{path}.size", pool.size), *_disk_contradictions(path, pool)]
        yield from wrong
        if not wrong and not pool.retiring:
            yield from _fit_contradictions(path, pool, site.startds)
    # An upgrade makes a pool's nodes anew beside the old ones.
    nodes = cluster.system_pool.nodes + 1 + 2 * sum(pool.max for pool in site.job_pools)
    yield from _network_contradictions(cluster.network, nodes)


def _place_contradictions(cluster: GoogleCluster) -> Iterator[str]:
    region, _, letter = cluster.zone.rpartition("-")
    if region != cluster.region or len(letter) != 1:
        yield (
            f"cluster.zone is {cluster.zone!r}: allowed is a zone of cluster.region, {cluster.region}, "
            f"as in {cluster.region}-b"
        )
    if cluster.maintenance.hours < gcp_nodes.MAINTENANCE_HOURS_LEAST:
        yield (
            f"cluster.maintenance.hours is {cluster.maintenance.hours}: GKE wants 48 hours in any 32 days; "
            f"allowed: at least {gcp_nodes.MAINTENANCE_HOURS_LEAST}"
        )


def _unknown_size(path: str, size: str) -> Iterator[str]:
    known = machines("gcp")
    if size not in known:
        near = difflib.get_close_matches(size, known, n=_NEAR) or list(known)[:_NEAR]
        yield (
            f"{path} is {size}, which components/cluster/machines_gcp.json does not know: "
            f"take one like {' or '.join(near)}, or add its line"
        )


def _disk_contradictions(path: str, pool: GooglePool) -> Iterator[str]:
    machine = machines("gcp").get(pool.size)
    if machine is None:
        return
    choice = ", ".join(map(str, machine.ssds))
    if not machine.ssd_gib:
        yield f"{path}.size is {pool.size}, which takes no local SSD: take one that does, as {_with_disk(pool.size)}"
    elif machine.disk_gib and pool.local_ssds not in (None, gcp_nodes.local_ssds(machine, None)):
        yield (
            f"{path}.localSsds is {pool.local_ssds}: {pool.size} has {gcp_nodes.local_ssds(machine, None)}, "
            "no more and no fewer; leave the key out"
        )
    elif not machine.disk_gib and pool.local_ssds is None:
        yield f"{path}.localSsds is missing: {pool.size} has none of its own; allowed: {choice}"
    elif not machine.disk_gib and pool.local_ssds not in machine.ssds:
        yield f"{path}.localSsds is {pool.local_ssds}; allowed for {pool.size}: {choice}"


def _with_disk(size: str) -> str:
    """A machine type as near as can be that has local SSDs."""
    with_disk = [name for name, machine in machines("gcp").items() if machine.ssd_gib]
    return difflib.get_close_matches(size, with_disk, n=1, cutoff=0)[0]


def _fit_contradictions(path: str, pool: GooglePool, startds: Startds) -> Iterator[str]:
    room = gcp_nodes.room(machines("gcp")[pool.size], pool.local_ssds)
    for key, one, most, more in (
        ("requestedCores", startds.requested_cores or startds.cores, room.cores, ""),
        ("memoryMib", startds.memory_mib, room.memory_mib, ""),
        ("diskMib", startds.disk_mib + LOGS_MIB, room.disk_mib, " with its logs"),
    ):
        if one > most:
            yield (
                f"{path}.size is {pool.size}, of which pods may request {most:g} at most: a startd of startds.{key} "
                f"takes {one:g}{more}, so no node would ever be made; take a larger size, or a smaller startd"
            )


def _network_contradictions(network: str, nodes: int) -> Iterator[str]:
    ours = ipaddress.ip_network(network)
    if ours.version != 4:
        yield f"cluster.network is {network}: nodes of GKE have IPv4 addresses, as in 10.224.0.0/16"
        return
    for other, what in ((gcp_nodes.PODS_NETWORK, "pods"), (gcp_nodes.SERVICES_NETWORK, "services")):
        if ours.overlaps(ipaddress.ip_network(other)):
            yield f"cluster.network is {network}, and {what} have {other}: take another, as in 10.224.0.0/16"
    there = max(0, ours.num_addresses - _KEPT_ADDRESSES)
    if there < nodes:
        yield (
            f"cluster.network is {network}: it has {there} addresses for nodes, "
            f"of which there may be {nodes} in an upgrade; take a larger one"
        )
