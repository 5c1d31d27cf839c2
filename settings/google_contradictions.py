"""What Google Cloud or GKE would refuse, or silently do otherwise, told before anything is made."""

import ipaddress
from collections.abc import Iterator

from components.cluster import gcp_nodes
from components.cluster.machines import machines
from settings.clouds import GoogleCluster, GooglePool, GoogleSite
from settings.pool_contradictions import nearest, too_large_cache, too_small, unknown_size, unpriced, wrong_network

# Google keeps four addresses of each subnet.
_KEPT_ADDRESSES = 4


def google_contradictions(site: GoogleSite) -> Iterator[str]:
    """One sentence, without its full stop, for each combination of valid values that cannot work on GKE."""
    cluster = site.cluster
    yield from _place_contradictions(cluster)
    yield from unknown_size("gcp", "cluster.systemPool.size", cluster.system_pool.size)
    yield from too_large_cache(site.cvmfs, gcp_nodes.BOOT_DISK_GIB)
    for index, pool in enumerate(site.job_pools):
        path = f"jobPools[{index}]"
        wrong = [*unknown_size("gcp", f"{path}.size", pool.size), *_disk_contradictions(path, pool)]
        yield from wrong
        if not wrong and not pool.retiring:
            room = gcp_nodes.room(machines("gcp")[pool.size], pool.local_ssds)
            yield from too_small(path, pool.size, room, site.startds)
            list_price = gcp_nodes.price(machines("gcp")[pool.size], spot=pool.spot)
            yield from unpriced(path, pool, list_price, site.startds)
    # An upgrade makes a pool's nodes anew beside the old ones.
    nodes = cluster.system_pool.nodes + 1 + 2 * sum(pool.max for pool in site.job_pools)
    if ipaddress.ip_network(cluster.network).version == 4:
        taken = {"pods": gcp_nodes.PODS_NETWORK, "services": gcp_nodes.SERVICES_NETWORK}
        yield from wrong_network(cluster.network, nodes=nodes, kept=_KEPT_ADDRESSES, taken=taken)
    else:
        yield f"cluster.network is {cluster.network}: nodes of GKE have IPv4 addresses, as in 10.224.0.0/16"


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


def _disk_contradictions(path: str, pool: GooglePool) -> Iterator[str]:
    machine = machines("gcp").get(pool.size)
    if machine is None:
        return
    choice = ", ".join(map(str, machine.ssds))
    if not machine.ssd_gib:
        near = nearest("gcp", pool.size, lambda other: other.ssd_gib)
        yield f"{path}.size is {pool.size}, which takes no local SSD: take one that does, as {near}"
    elif machine.disk_gib and pool.local_ssds not in (None, gcp_nodes.local_ssds(machine, None)):
        yield (
            f"{path}.localSsds is {pool.local_ssds}: {pool.size} has {gcp_nodes.local_ssds(machine, None)}, "
            "no more and no fewer; leave the key out"
        )
    elif not machine.disk_gib and pool.local_ssds is None:
        yield f"{path}.localSsds is missing: {pool.size} has none of its own; allowed: {choice}"
    elif not machine.disk_gib and pool.local_ssds not in machine.ssds:
        yield f"{path}.localSsds is {pool.local_ssds}; allowed for {pool.size}: {choice}"
