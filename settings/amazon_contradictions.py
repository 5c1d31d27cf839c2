"""What AWS or EKS would refuse, or silently do otherwise, told before anything is made."""

import ipaddress
import re
from collections.abc import Iterator

from components.cluster import aws_nodes
from components.cluster.machines import machines
from settings.clouds import AmazonCluster, AmazonPool, AmazonSite
from settings.pool_contradictions import nearest, taken_network, too_large_cache, too_small, unknown_size, unpriced


def amazon_contradictions(site: AmazonSite) -> Iterator[str]:
    """One sentence, without its full stop, for each combination of valid values that cannot work on EKS."""
    cluster = site.cluster
    yield from _place_contradictions(cluster)
    if cluster.kubernetes_version.count(".") > 1:
        minor = cluster.kubernetes_version.rpartition(".")[0]
        yield f"cluster.kubernetesVersion is {cluster.kubernetes_version!r}: EKS chooses the patch; say '{minor}'"
    yield from unknown_size("aws", "cluster.systemPool.size", cluster.system_pool.size)
    yield from too_large_cache(site.cvmfs, aws_nodes.ROOT_DISK_GIB)
    for index, pool in enumerate(site.job_pools):
        path = f"jobPools[{index}]"
        wrong = [*unknown_size("aws", f"{path}.size", pool.size), *_pool_contradictions(path, pool)]
        yield from wrong
        if not wrong and not pool.retiring:
            yield from too_small(path, pool.size, aws_nodes.room(machines("aws")[pool.size]), site.startds)
            yield from unpriced(path, pool, machines("aws")[pool.size].price(spot=pool.spot), site.startds)
    yield from _network_contradictions(site)


def _place_contradictions(cluster: AmazonCluster) -> Iterator[str]:
    for key, zone in (("zone", cluster.zone), ("secondZone", cluster.second_zone)):
        if not re.fullmatch(rf"{re.escape(cluster.region)}[a-z]", zone):
            yield (
                f"cluster.{key} is {zone!r}: allowed is a zone of cluster.region, {cluster.region}, "
                f"as in {cluster.region}a"
            )
    if cluster.zone == cluster.second_zone:
        yield f"cluster.secondZone is {cluster.second_zone!r}, as is cluster.zone: EKS wants two"


def _pool_contradictions(path: str, pool: AmazonPool) -> Iterator[str]:
    if pool.max > aws_nodes.NODES_MOST:
        yield (
            f"{path}.max is {pool.max}: EKS makes at most {aws_nodes.NODES_MOST} nodes of one pool; "
            "lower it, and add a pool of another name"
        )
    machine = machines("aws").get(pool.size)
    if machine and machine.disk_gib == 0:
        near = nearest("aws", pool.size, lambda other: other.disk_gib)
        yield f"{path}.size is {pool.size}, which has no local disk: take a size with a d in its name, as in {near}"


def _network_contradictions(site: AmazonSite) -> Iterator[str]:
    network = ipaddress.ip_network(site.cluster.network)
    least, most = aws_nodes.PREFIXES
    if network.version != 4:
        yield f"cluster.network is {network}: nodes of EKS have IPv4 addresses here, as in 10.224.0.0/16"
        return
    if not least <= network.prefixlen <= most:
        yield f"cluster.network is {network}: allowed is a network from /{least} to /{most}, as in 10.224.0.0/16"
        return
    yield from taken_network(site.cluster.network, {"services": aws_nodes.SERVICES_NETWORK})
    pools = [(site.cluster.system_pool.size, site.cluster.system_pool.nodes + 1)]
    pools += [(pool.size, pool.max) for pool in site.job_pools]
    known = machines("aws")
    wanted = sum(aws_nodes.addresses(known[size], nodes) for size, nodes in pools if size in known)
    half = ipaddress.ip_network(aws_nodes.subnets(site.cluster.network).nodes)
    there = half.num_addresses - aws_nodes.KEPT_ADDRESSES
    if wanted > there:
        yield (
            f"cluster.network is {network}: half of it has {there} addresses for nodes and their pods, which may take "
            f"{wanted}; take a larger network, or lower max of a pool"
        )
