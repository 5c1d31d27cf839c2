"""What Azure or AKS would refuse, or silently do otherwise, told before anything is made."""

import difflib
import ipaddress
from collections.abc import Iterator

from components.cluster import azure_nodes
from components.cluster.machines import machines
from components.startds import LOGS_MIB
from settings.clouds import AzureOutbound, AzurePool, AzureSite
from settings.workload import Startds

# Azure keeps five addresses of each subnet.
_KEPT_ADDRESSES = 5
_NEAR = 3


def azure_contradictions(site: AzureSite) -> Iterator[str]:
    """One sentence, without its full stop, for each combination of valid values that cannot work on AKS."""
    yield from _size_contradictions("cluster.systemPool.size", site.cluster.system_pool.size)
    for index, pool in enumerate(site.job_pools):
        path = f"jobPools[{index}]"
        wrong = [*_size_contradictions(f"{path}.size", pool.size), *_disk_contradictions(path, pool)]
        yield from wrong
        if not wrong and not pool.retiring:
            yield from _fit_contradictions(path, pool, site.startds)
    nodes = azure_nodes.surged(site.cluster.system_pool.nodes) + sum(
        azure_nodes.surged(pool.max) for pool in site.job_pools
    )
    yield from _port_contradictions(site.cluster.outbound, nodes)
    yield from _network_contradictions(site.cluster.network, nodes)


def _size_contradictions(path: str, size: str) -> Iterator[str]:
    known = machines("azure")
    if size not in known:
        near = difflib.get_close_matches(size, known, n=_NEAR) or list(known)[:_NEAR]
        yield (
            f"{path} is {size}, which components/cluster/machines_azure.json does not know: "
            f"take one like {' or '.join(near)}, or add its line"
        )
    elif known[size].disk_gib == 0:
        yield f"{path} is {size}, which has no local disk: take a size with a d in its name, as in {_with_disk(size)}"


def _with_disk(size: str) -> str:
    """A size as near as can be that has a local disk."""
    near = [name for name, machine in machines("azure").items() if machine.disk_gib]
    return difflib.get_close_matches(size, near, n=1, cutoff=0)[0]


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


def _fit_contradictions(path: str, pool: AzurePool, startds: Startds) -> Iterator[str]:
    room = azure_nodes.room(
        machines("azure")[pool.size], kubelet_disk=pool.kubelet_disk, wanted_disk_gib=pool.os_disk_gib
    )
    for key, one, most, more in (
        ("requestedCores", startds.requested_cores or startds.cores, room.cores, ""),
        ("memoryMib", startds.memory_mib, room.memory_mib, ""),
        ("diskMib", startds.disk_mib + LOGS_MIB, room.disk_mib, " with its logs"),
    ):
        if one > most:
            yield (
                f"{path}.size is {pool.size}, too small for one startd: its startds.{key} takes {one:g}{more}, and "
                f"pods may request {most:g} of a node at most; take a larger size, or a smaller startd"
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


def _network_contradictions(network: str, nodes: int) -> Iterator[str]:
    ours = ipaddress.ip_network(network)
    for other, what in ((azure_nodes.PODS_NETWORK, "pods"), (azure_nodes.SERVICES_NETWORK, "services")):
        theirs = ipaddress.ip_network(other)
        if ours.version == theirs.version and ours.overlaps(theirs):
            yield f"cluster.network is {network}, and {what} have {other}: take another, as in 10.224.0.0/16"
    if ours.num_addresses - _KEPT_ADDRESSES < nodes:
        yield (
            f"cluster.network is {network}: it has {max(0, ours.num_addresses - _KEPT_ADDRESSES)} addresses for nodes, "
            f"of which there may be {nodes} in an upgrade; take a larger one"
        )
