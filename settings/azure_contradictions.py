"""What Azure or AKS would refuse, or silently do otherwise, told before anything is made."""

from collections.abc import Iterator

from components.cluster import azure_nodes
from components.cluster.machines import machines
from settings.clouds import AzureOutbound, AzurePool, AzureSite
from settings.pool_contradictions import nearest, too_small, unknown_size, unpriced, wrong_network

# Azure keeps five addresses of each subnet.
_KEPT_ADDRESSES = 5


def azure_contradictions(site: AzureSite) -> Iterator[str]:
    """One sentence, without its full stop, for each combination of valid values that cannot work on AKS."""
    yield from _size_contradictions("cluster.systemPool.size", site.cluster.system_pool.size)
    for index, pool in enumerate(site.job_pools):
        path = f"jobPools[{index}]"
        wrong = [*_size_contradictions(f"{path}.size", pool.size), *_disk_contradictions(path, pool)]
        yield from wrong
        if not wrong and not pool.retiring:
            room = azure_nodes.room(
                machines("azure")[pool.size], kubelet_disk=pool.kubelet_disk, wanted_disk_gib=pool.os_disk_gib
            )
            yield from too_small(path, pool.size, room, site.startds)
            list_price = machines("azure")[pool.size].price(spot=pool.spot)
            yield from unpriced(path, pool, list_price, site.startds)
    nodes = azure_nodes.surged(site.cluster.system_pool.nodes) + sum(
        azure_nodes.surged(pool.max) for pool in site.job_pools
    )
    yield from _port_contradictions(site.cluster.outbound, nodes)
    taken = {"pods": azure_nodes.PODS_NETWORK, "services": azure_nodes.SERVICES_NETWORK}
    yield from wrong_network(site.cluster.network, nodes=nodes, kept=_KEPT_ADDRESSES, taken=taken)


def _size_contradictions(path: str, size: str) -> Iterator[str]:
    yield from unknown_size("azure", path, size)
    machine = machines("azure").get(size)
    if machine and machine.disk_gib == 0:
        near = nearest("azure", size, lambda other: other.disk_gib)
        yield f"{path} is {size}, which has no local disk: take a size with a d in its name, as in {near}"


def _disk_contradictions(path: str, pool: AzurePool) -> Iterator[str]:
    machine = machines("azure").get(pool.size)
    if machine is None or machine.disk_gib == 0:
        return
    if pool.kubelet_disk == "Temporary":
        if machine.temporary_gib == 0:
            yield (
                f"{path}.kubeletDisk is Temporary, and the disks of {pool.size} are raw NVMe, which AKS does not "
                "format for the kubelet: leave it at OS, or take a size of version 5, as in Standard_D8ds_v5"
            )
    else:
        most = azure_nodes.os_disk_gib(machine, None)
        if pool.os_disk_gib is not None and pool.os_disk_gib > most:
            yield (
                f"{path}.osDiskGib is {pool.os_disk_gib}: the local disk of {pool.size} takes at most {most}; "
                "leave the key out for all of it"
            )


def _port_contradictions(outbound: AzureOutbound, nodes: int) -> Iterator[str]:
    if outbound.by != "loadBalancer":
        return
    wanted, there = outbound.ports_per_node * nodes, outbound.addresses * azure_nodes.PORTS_OF_ADDRESS
    if wanted > there:
        yield (
            f"cluster.outbound.portsPerNode is {outbound.ports_per_node}: {nodes} nodes, as there may be in an "
            f"upgrade, take {wanted} ports, and {outbound.addresses} addresses have {there}; "
            f"lower it, or raise addresses to {-(-wanted // azure_nodes.PORTS_OF_ADDRESS)}"
        )
