"""The node pools of a GKE cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import container

from components.cluster import gcp_nodes
from components.cluster.machines import machines
from components.cluster.plan import JobPool, SystemPool
from components.cluster.pools import JOBS, LABEL, SYSTEM, NodePool, promised
from components.labels import cost_tags

# GKE's own words for the effects of taints.
EFFECTS = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}
# GKE changes these in place by making each node anew, jobs and all. As a replacement the engine refuses it of what is
# protected, and the way is a new generation.
NODES_ANEW = [
    "nodeConfig.bootDisk", "nodeConfig.ephemeralStorageLocalSsdConfig", "nodeConfig.imageType",
    "nodeConfig.machineType", "nodeConfig.spot",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GoogleJobPool(JobPool):
    """A pool of GKE.

    Attributes:
        local_ssds: their number where the machine type leaves the choice, else None.
    """

    local_ssds: int | None


@dataclass(frozen=True, kw_only=True)
class Home:
    """What all pools of a cluster have in common.

    Attributes:
        site: the name that it bears for good.
        zone: of all nodes.
        cluster: the pools' own, by its name in full.
        account: the e-mail address by which nodes are known.
        drain_seconds: that a startd may take to leave.
    """

    site: str
    zone: str
    cluster: pulumi.Output[str]
    account: pulumi.Output[str]
    drain_seconds: int


def system_pool(name: str, home: Home, pool: SystemPool, own: pulumi.ResourceOptions) -> container.NodePool:
    """Nodes of squids and services, which are renewed one by one."""
    return container.NodePool(
        f"{name}-pool-{SYSTEM}",
        name=SYSTEM,
        cluster=home.cluster,
        location=home.zone,
        node_count=pool.nodes,
        max_pods_per_node=gcp_nodes.PODS,
        management=_management(),
        upgrade_settings=container.NodePoolUpgradeSettingsArgs(strategy="SURGE", max_surge=1, max_unavailable=0),
        node_config=_nodes(home, SYSTEM, pool.size, gcp_nodes.local_ssds(machines("gcp")[pool.size], None)),
        opts=own,
    )


def job_pool(name: str, home: Home, pool: GoogleJobPool, own: pulumi.ResourceOptions) -> container.NodePool:
    """Nodes of startds, made by the autoscaler.

    An upgrade makes new nodes beside the old ones, waits for the startds of these, and drains what is left: GKE's drain
    itself waits one hour at most, and only projects that Google lists may set a longer one as the pool's drain.
    """
    ssds = gcp_nodes.local_ssds(machines("gcp")[pool.size], pool.local_ssds)
    least = 0 if pool.retiring else pool.least
    wait = min(home.drain_seconds, gcp_nodes.UPGRADE_WAIT_MOST_SECONDS)
    return container.NodePool(
        f"{name}-pool-{pool.full_name}",
        name=pool.full_name,
        cluster=home.cluster,
        location=home.zone,
        initial_node_count=least,
        autoscaling=container.NodePoolAutoscalingArgs(
            total_min_node_count=least, total_max_node_count=pool.most, location_policy="ANY"
        ),
        # How many nodes there are is the autoscaler's, and asking takes a call for each instance group.
        ignore_node_count_changes=True,
        max_pods_per_node=gcp_nodes.PODS,
        management=_management(),
        upgrade_settings=container.NodePoolUpgradeSettingsArgs(
            strategy="BLUE_GREEN",
            blue_green_settings=container.NodePoolUpgradeSettingsBlueGreenSettingsArgs(
                node_pool_soak_duration="0s",
                autoscaled_rollout_policy=container.NodePoolUpgradeSettingsBlueGreenSettingsAutoscaledRolloutPolicyArgs(
                    wait_for_drain_duration=f"{wait}s"
                ),
            ),
        ),
        node_config=_nodes(home, pool.full_name, pool.size, ssds, jobs=True, spot=pool.spot),
        opts=pulumi.ResourceOptions(
            parent=own.parent,
            provider=own.provider,
            depends_on=own.depends_on,
            protect=not pool.retiring,
            # A changed minimum would replace the pool. A pool that retires is not protected, and so stays as it is: a
            # replacement would end its payloads.
            ignore_changes=["initialNodeCount", *(NODES_ANEW if pool.retiring else ())],
            replace_on_changes=NODES_ANEW,
        ),
    )


def facts(pool: GoogleJobPool) -> NodePool:
    """What the rest of the site is told of a job pool."""
    machine = machines("gcp")[pool.size]
    room = gcp_nodes.room(machine, pool.local_ssds)
    return promised(pool, room, taints=[JOBS], list_price=gcp_nodes.price(machine, spot=pool.spot))


def _management() -> container.NodePoolManagementArgs:
    # In a release channel GKE takes neither away.
    return container.NodePoolManagementArgs(auto_repair=True, auto_upgrade=True)


def _nodes(
    home: Home, label: str, size: str, ssds: int, *, jobs: bool = False, spot: bool = False
) -> container.NodePoolNodeConfigArgs:
    taints: Sequence[container.NodePoolNodeConfigTaintArgs] = [
        container.NodePoolNodeConfigTaintArgs(key=JOBS.key, value=JOBS.value, effect=EFFECTS[JOBS.effect])
    ]
    return container.NodePoolNodeConfigArgs(
        machine_type=size,
        image_type="COS_CONTAINERD",
        spot=spot,
        boot_disk=container.NodePoolNodeConfigBootDiskArgs(
            disk_type=gcp_nodes.boot_disk_type(size), size_gb=gcp_nodes.BOOT_DISK_GIB
        ),
        # Left out where the number is the machine type's own, the next update would make the pool anew
        # (GoogleCloudPlatform/cluster-toolkit#2968).
        ephemeral_storage_local_ssd_config=container.NodePoolNodeConfigEphemeralStorageLocalSsdConfigArgs(
            local_ssd_count=ssds
        ),
        labels={LABEL: label} if jobs else {},
        taints=taints if jobs else [],
        resource_labels=cost_tags(home.site, label),
        service_account=home.account,
        # What nodes may do is what their account may do.
        oauth_scopes=["https://www.googleapis.com/auth/cloud-platform"],
        metadata={"disable-legacy-endpoints": "true"},
        workload_metadata_config=container.NodePoolNodeConfigWorkloadMetadataConfigArgs(mode="GKE_METADATA"),
        shielded_instance_config=container.NodePoolNodeConfigShieldedInstanceConfigArgs(
            enable_secure_boot=True, enable_integrity_monitoring=True
        ),
    )
