"""AKS: a cluster in a resource group of its own, with images, logs and emptyDir on each node's local disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi_azure_native as azure_native
from pulumi_azure_native import authorization, containerservice as aks, managedidentity, resources

from components import naming
from components.after import after
from components.cluster import azure_kubeconfig, azure_nodes, azure_pools, azure_roles, azure_storage, question
from components.cluster.azure_network import LOAD_BALANCER, AzureOutbound, NodeNetwork, load_balancer, node_network
from components.cluster.azure_pools import AzureJobPool
from components.cluster.azure_storage import AzureStorage
from components.cluster.cluster import Cluster
from components.cluster.plan import ClusterArgs, Maintenance
from components.labels import cost_tags

__all__ = ["AzureCluster", "AzureClusterArgs", "AzureJobPool", "AzureOutbound", "AzureStorage"]

# Azure's built-in role "Network Contributor", the same in each tenant.
NETWORK_CONTRIBUTOR = "4d97b98b-1d4f-4787-a291-c67834d212e7"
CREDENTIALS = "azure-native:containerservice:listManagedClusterUserCredentials"
# What AKS calls the windows of Kubernetes' patches and of the nodes' images.
WINDOWS = {"versions": "aksManagedAutoUpgradeSchedule", "images": "aksManagedNodeOSUpgradeSchedule"}


@dataclass(frozen=True, kw_only=True)
class AzureClusterArgs(ClusterArgs):
    """An AKS cluster.

    Attributes:
        subscription: its UUID.
        tier: Free, Standard or Premium.
        admin_groups: UUIDs of the groups of Entra ID whose members administer the cluster.
        maintenance: when nodes may be renewed.
        outbound: how nodes reach the outside.
        job_pools: for startds.
        storage: a container for what payloads make, if any.
    """

    subscription: str
    tier: str
    admin_groups: Sequence[str]
    maintenance: Maintenance
    outbound: AzureOutbound
    job_pools: Sequence[AzureJobPool]
    storage: AzureStorage | None = None


class AzureCluster(Cluster):
    """An AKS cluster.

    Its pool of squids and services is made with it, and changed by `az aks nodepool` alone: AKS takes the list of pools
    in the cluster's description for all pools there are to be, and the engine would undo whatever else is in it.
    """

    def __init__(self, name: str, args: AzureClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:cluster:AzureCluster", name, None, opts)
        azure = azure_native.Provider(
            f"{name}-azure",
            subscription_id=args.subscription,
            location=args.region,
            opts=pulumi.ResourceOptions(parent=self),
        )
        own = pulumi.ResourceOptions(parent=self, provider=azure)
        group = resources.ResourceGroup(
            f"{name}-group",
            resource_group_name=naming.azure(args.site),
            location=args.region,
            tags=cost_tags(args.site),
            opts=own,
        )
        # What is in the group is told its name, not asked of it: see `after`.
        grouped = after(group, naming.azure(args.site))
        network = node_network(name, args.site, args.subscription, grouped, args.network, args.outbound, own)
        identity = managedidentity.UserAssignedIdentity(
            f"{name}-identity",
            resource_name_=naming.azure(args.site),
            resource_group_name=grouped,
            tags=cost_tags(args.site),
            opts=own,
        )
        grant = _network_grant(name, args, identity, network, own)
        cluster = _managed_cluster(name, args, grouped, identity, network, [grant], own)
        for label, window in WINDOWS.items():
            _window(f"{name}-window-{label}", args, grouped, cluster, window, own)
        pools = [
            azure_pools.job_pool(
                name,
                args.site,
                cluster,
                grouped,
                network.subnet,
                pool,
                version=args.kubernetes_version,
                drain_seconds=args.drain_seconds,
                own=own,
            )
            for pool in args.job_pools
        ]
        if args.storage is not None:
            whose = azure_storage.Whose(
                site=args.site, subscription=args.subscription, region=args.region, group=grouped, cluster=cluster
            )
            self.container = azure_storage.container(name, whose, args.storage, own)
        self.region = args.region
        self.pools = [azure_pools.node_pool(pool) for pool in args.job_pools]
        self.reach(name, _kubeconfig(args.site, azure, cluster), f"{args.site}-cluster", needs=[cluster, grant, *pools])
        self.register_outputs({"kubeconfig": self.kubeconfig, "region": args.region})


class _ManagedCluster(aks.ManagedCluster):
    """A managed cluster as the SDK has it, but for one property, which is left as Azure tells it.

    Identities are asked for as a list and told as a map. Of a cluster that could not be made the SDK takes the one for
    the other, and ends the program, and so the update of all sites.
    """

    @property
    @pulumi.getter
    def identity(self) -> pulumi.Output[Any]:
        """The identity of the cluster."""
        return cast("pulumi.Output[Any]", pulumi.get(self, "identity"))


def autoscaler(drain_seconds: int) -> aks.ManagedClusterPropertiesAutoScalerProfileArgs:
    """How nodes come and go: each value said, for what AKS takes when none is differs between its API and its pages."""
    return aks.ManagedClusterPropertiesAutoScalerProfileArgs(
        expander="least-waste",
        balance_similar_node_groups="false",
        scan_interval="10s",
        new_pod_scale_up_delay="0s",
        max_node_provision_time="15m",
        max_total_unready_percentage="45",
        ok_total_unready_count="3",
        scale_down_delay_after_add="10m",
        scale_down_delay_after_delete="1m",
        scale_down_delay_after_failure="3m",
        scale_down_unneeded_time="10m",
        scale_down_unready_time="20m",
        scale_down_utilization_threshold="0.5",
        max_empty_bulk_delete="10",
        max_graceful_termination_sec=str(drain_seconds),
        # Each startd has an emptyDir: no node that had one would ever go.
        skip_nodes_with_local_storage="false",
        skip_nodes_with_system_pods="true",
        # The mounter of CVMFS is on each node, and alone is no reason to keep one.
        ignore_daemonsets_utilization=True,
        # It must outlive the startds that read from it.
        daemonset_eviction_for_occupied_nodes=False,
        daemonset_eviction_for_empty_nodes=False,
    )


def upgrade_channel(version: str) -> str:
    """Patches come by themselves where the stack names a minor version alone; with a patch it means that one."""
    return "none" if version.count(".") > 1 else "patch"


def _network_grant(
    name: str,
    args: AzureClusterArgs,
    identity: managedidentity.UserAssignedIdentity,
    network: NodeNetwork,
    own: pulumi.ResourceOptions,
) -> authorization.RoleAssignment:
    """The cluster joins nodes to a subnet that is ours: without this it is made, and no node comes up."""
    return azure_roles.grant(
        f"{name}-grant",
        site=args.site,
        subscription=args.subscription,
        what="network",
        role=NETWORK_CONTRIBUTOR,
        scope=network.subnet,
        identity=identity,
        own=own,
    )


def _managed_cluster(
    name: str,
    args: AzureClusterArgs,
    group: pulumi.Output[str],
    identity: managedidentity.UserAssignedIdentity,
    network: NodeNetwork,
    needs: Sequence[pulumi.Resource],
    own: pulumi.ResourceOptions,
) -> aks.ManagedCluster:
    options = pulumi.ResourceOptions(
        protect=True, depends_on=list(needs), ignore_changes=["agentPoolProfiles"], delete_before_replace=True
    )
    return _ManagedCluster(
        f"{name}-aks",
        resource_name_=naming.azure(args.site),
        resource_group_name=group,
        node_resource_group=naming.azure_nodes(args.site),
        dns_prefix=naming.azure_dns_prefix(args.site),
        # Not Automatic, which forbids the privileged pods that mount CVMFS.
        sku=aks.ManagedClusterSKUArgs(name="Base", tier=args.tier),
        kubernetes_version=args.kubernetes_version,
        agent_pool_profiles=[azure_pools.system_pool(args.system_pool, args.site, network.subnet, args.drain_seconds)],
        network_profile=_network_profile(args.outbound),
        auto_scaler_profile=autoscaler(args.drain_seconds),
        auto_upgrade_profile=aks.ManagedClusterAutoUpgradeProfileArgs(
            upgrade_channel=upgrade_channel(args.kubernetes_version), node_os_upgrade_channel="NodeImage"
        ),
        identity=aks.ManagedClusterIdentityArgs(
            type=aks.ResourceIdentityType.USER_ASSIGNED, user_assigned_identities=[identity.id]
        ),
        oidc_issuer_profile=aks.ManagedClusterOIDCIssuerProfileArgs(enabled=True),
        security_profile=aks.ManagedClusterSecurityProfileArgs(
            workload_identity=aks.ManagedClusterSecurityProfileWorkloadIdentityArgs(enabled=True)
        ),
        enable_rbac=True,
        aad_profile=aks.ManagedClusterAADProfileArgs(
            managed=True, enable_azure_rbac=True, admin_group_object_ids=list(args.admin_groups)
        ),
        disable_local_accounts=True,
        api_server_access_profile=aks.ManagedClusterAPIServerAccessProfileArgs(
            # AKS adds the load balancer's addresses, and knows none of a gateway's: nodes would not reach it.
            authorized_ip_ranges=[*args.authorized_networks, *network.ways_out],
            disable_run_command=True,
        ),
        # What it ingests costs more than the nodes of a small site.
        azure_monitor_profile=aks.ManagedClusterAzureMonitorProfileArgs(
            metrics=aks.ManagedClusterAzureMonitorProfileMetricsArgs(enabled=False)
        ),
        tags=cost_tags(args.site),
        opts=pulumi.ResourceOptions.merge(own, options),
    )


def _network_profile(outbound: AzureOutbound) -> aks.ContainerServiceNetworkProfileArgs:
    return aks.ContainerServiceNetworkProfileArgs(
        network_plugin="azure",
        network_plugin_mode="overlay",
        network_dataplane="cilium",
        network_policy="cilium",
        pod_cidr=azure_nodes.PODS_NETWORK,
        service_cidr=azure_nodes.SERVICES_NETWORK,
        dns_service_ip=azure_nodes.DNS_ADDRESS,
        load_balancer_sku="standard",
        outbound_type="loadBalancer" if outbound.by == LOAD_BALANCER else "userAssignedNATGateway",
        load_balancer_profile=load_balancer(outbound),
    )


def _window(
    name: str,
    args: AzureClusterArgs,
    group: pulumi.Output[str],
    cluster: aks.ManagedCluster,
    window: str,
    own: pulumi.ResourceOptions,
) -> aks.MaintenanceConfiguration:
    return aks.MaintenanceConfiguration(
        name,
        config_name=window,
        resource_name_=naming.azure(args.site),
        resource_group_name=group,
        maintenance_window=maintenance_window(args.maintenance),
        opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[cluster])),
    )


def maintenance_window(maintenance: Maintenance) -> aks.MaintenanceWindowArgs:
    """Each week, on that day."""
    return aks.MaintenanceWindowArgs(
        schedule=aks.ScheduleArgs(weekly=aks.WeeklyScheduleArgs(day_of_week=maintenance.day, interval_weeks=1)),
        start_time=f"{maintenance.start_hour_utc:02}:00",
        utc_offset="+00:00",
        duration_hours=maintenance.hours,
    )


def _kubeconfig(site: str, azure: azure_native.Provider, cluster: aks.ManagedCluster) -> pulumi.Output[str]:
    """Asked for once the cluster is there; a preview before that does not know it, and does not wait.

    Empty where AKS does not give it, which is told as the site's error.
    """

    async def ask(known: Sequence[str]) -> str:
        urn, identity, _ = known
        arguments = {
            "resourceGroupName": naming.azure(site),
            "resourceName": naming.azure(site),
            "format": "exec",
        }
        try:
            given = await question.answer(f"{urn}::{identity}", CREDENTIALS, arguments)
            return azure_kubeconfig.unattended(given["kubeconfigs"][0]["value"])
        except (question.RefusedError, LookupError, ValueError) as error:
            pulumi.log.error(f"site {site}: AKS does not give the cluster's kubeconfig: {error}", cluster)
            return ""

    return pulumi.Output.all(azure.urn, azure.id, cluster.id).apply(ask)
