"""Node pools of AKS: the inline one of squids and services, and those of startds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_azure_native import containerservice as aks

from components import naming
from components.cluster import azure_nodes
from components.cluster.machines import Machine, machines
from components.cluster.plan import JobPool, SystemPool
from components.cluster.pools import JOBS, LABEL, SYSTEM, NodePool, Taint, promised
from components.labels import cost_tags

# AKS puts both on nodes of a spot pool by itself; not declared, they are a difference for ever
# (pulumi-azure-native#959).
SPOT = Taint(key="kubernetes.azure.com/scalesetpriority", value="spot", effect="NoSchedule")
# Small pods on few nodes, unlike those of job pools.
SYSTEM_PODS = 110
# AKS refuses a change of these; the provider asks for a replacement of vmSize alone, and would try the others for ever.
# Pools are protected, so a replacement is refused in the preview, before it ends payloads: see JobPool.generation.
IMMUTABLE = [
    "availabilityZones", "kubeletDiskType", "maxPods", "osDiskSizeGB", "osDiskType", "osSKU", "scaleSetEvictionPolicy",
    "scaleSetPriority", "spotMaxPrice", "vmSize", "vnetSubnetID",
]  # fmt: skip
# The least and the most that AKS takes.
_DRAIN_MINUTES = (5, 1440)


@dataclass(frozen=True, kw_only=True)
class AzureJobPool(JobPool):
    """A pool of AKS.

    Attributes:
        os_disk_gib: of the local disk; None for all of it.
        kubelet_disk: OS or Temporary.
        zones: of the region; none for any.
    """

    os_disk_gib: int | None
    kubelet_disk: str
    zones: Sequence[str]


def drain_minutes(seconds: int) -> int:
    """How long an upgrade waits for a node's payloads, in minutes; AKS waits a day at most."""
    least, most = _DRAIN_MINUTES
    return min(most, max(least, math.ceil(seconds / 60)))


def system_pool(
    pool: SystemPool, site: str, subnet: pulumi.Input[str], drain_seconds: int
) -> aks.ManagedClusterAgentPoolProfileArgs:
    """The pool that a cluster cannot be without; nothing keeps squids and services off it."""
    machine = machines("azure")[pool.size]
    return aks.ManagedClusterAgentPoolProfileArgs(
        name=SYSTEM,
        mode="System",
        type="VirtualMachineScaleSets",
        count=pool.nodes,
        enable_auto_scaling=False,
        vm_size=pool.size,
        os_type="Linux",
        os_sku="Ubuntu",
        os_disk_type="Ephemeral",
        os_disk_size_gb=azure_nodes.os_disk_gib(machine, None),
        kubelet_disk_type="OS",
        max_pods=SYSTEM_PODS,
        vnet_subnet_id=subnet,
        upgrade_settings=_upgrades(drain_seconds),
        tags=cost_tags(site, SYSTEM),
    )


def job_pool(
    name: str,
    site: str,
    cluster: aks.ManagedCluster,
    group: pulumi.Input[str],
    subnet: pulumi.Input[str],
    pool: AzureJobPool,
    *,
    version: str,
    drain_seconds: int,
    own: pulumi.ResourceOptions,
) -> aks.AgentPool:
    """Nodes for startds.

    It is protected until it retires: the engine deletes and replaces pools without draining them, so it must refuse.
    """
    machine = machines("azure")[pool.size]
    temporary = pool.kubelet_disk == "Temporary"
    options = pulumi.ResourceOptions(
        # Its name is literal, which tells the engine of no dependence.
        depends_on=[cluster],
        protect=not pool.retiring,
        # The autoscaler's; it must be given all the same (pulumi-azure-native#2943). And a pool that retires is not
        # protected, and so stays as it is: a replacement would end its payloads.
        ignore_changes=["count", *(IMMUTABLE if pool.retiring else ())],
        replace_on_changes=IMMUTABLE,
        # A name is taken until its pool is gone.
        delete_before_replace=True,
    )
    return aks.AgentPool(
        f"{name}-{pool.full_name}",
        agent_pool_name=pool.full_name,
        resource_name_=naming.azure(site),
        resource_group_name=group,
        mode="User",
        type="VirtualMachineScaleSets",
        vm_size=pool.size,
        orchestrator_version=version,
        enable_auto_scaling=True,
        count=pool.least,
        # A pool that retires is to become empty.
        min_count=0 if pool.retiring else pool.least,
        max_count=pool.most,
        scale_down_mode="Delete",
        availability_zones=list(pool.zones) or None,
        os_type="Linux",
        os_sku="Ubuntu",
        # Said, or AKS takes a disk over the network where the size does not fit: a site on 30 GB at 500 operations a
        # second, with no error.
        os_disk_type="Managed" if temporary else "Ephemeral",
        os_disk_size_gb=_os_disk(machine, pool),
        kubelet_disk_type=pool.kubelet_disk,
        max_pods=azure_nodes.most_pods(machine),
        vnet_subnet_id=subnet,
        node_labels=node_labels(pool),
        node_taints=[f"{taint.key}={taint.value}:{taint.effect}" for taint in node_taints(pool)],
        scale_set_priority="Spot" if pool.spot else "Regular",
        scale_set_eviction_policy="Delete" if pool.spot else None,
        # Up to the price on demand.
        spot_max_price=-1 if pool.spot else None,
        upgrade_settings=None if pool.spot else _upgrades(drain_seconds),
        tags=cost_tags(site, pool.full_name),
        opts=pulumi.ResourceOptions.merge(own, options),
    )


def node_labels(pool: AzureJobPool) -> dict[str, str]:
    """The labels of its nodes."""
    return {LABEL: pool.full_name} | ({SPOT.key: SPOT.value} if pool.spot else {})


def node_taints(pool: AzureJobPool) -> tuple[Taint, ...]:
    """The taints of its nodes."""
    return (JOBS, SPOT) if pool.spot else (JOBS,)


def node_pool(pool: AzureJobPool) -> NodePool:
    """What may be requested of its nodes, before there is one."""
    machine = machines("azure")[pool.size]
    room = azure_nodes.room(machine, kubelet_disk=pool.kubelet_disk, wanted_disk_gib=pool.os_disk_gib)
    return promised(pool, room, taints=node_taints(pool), list_price=machine.price(spot=pool.spot))


def _os_disk(machine: Machine, pool: AzureJobPool) -> int:
    if pool.kubelet_disk == "Temporary":
        return pool.os_disk_gib or azure_nodes.NETWORK_DISK_GIB
    return azure_nodes.os_disk_gib(machine, pool.os_disk_gib)


def _upgrades(drain_seconds: int) -> aks.AgentPoolUpgradeSettingsArgs:
    """A node whose payloads have not ended is left, cordoned, and not shot; spot pools take no such settings."""
    return aks.AgentPoolUpgradeSettingsArgs(
        drain_timeout_in_minutes=drain_minutes(drain_seconds),
        max_surge=f"{azure_nodes.SURGE_PERCENT}%",
        undrainable_node_behavior="Cordon",
    )
