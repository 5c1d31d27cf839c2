"""GKE Standard: a cluster in a network of its own, with images, logs and emptyDir on each node's local SSDs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pulumi
import pulumi_gcp as gcp
from pulumi_gcp import container, projects, serviceaccount

from components import naming
from components.after import after
from components.cluster import gcp_pools
from components.cluster.cluster import Cluster
from components.cluster.gcp_kubeconfig import kubeconfig
from components.cluster.gcp_network import PODS, SERVICES, NodeNetwork, node_network
from components.cluster.gcp_pools import GoogleJobPool
from components.cluster.plan import ClusterArgs, Maintenance
from components.labels import cost_tags

__all__ = ["GoogleCluster", "GoogleClusterArgs", "GoogleJobPool", "recurring"]

# What a new project has not enabled yet.
SERVICES_OF_PROJECT = ("compute", "container", "iam")
# What Google asks for nodes that have an account of their own, and to pull images:
# cloud.google.com/kubernetes-engine/docs/how-to/service-accounts.
NODE_ROLES = {"nodes": "roles/container.defaultNodeServiceAccount", "images": "roles/artifactregistry.reader"}
# A Monday; what matters to a window that recurs each week is the day it begins with.
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, kw_only=True)
class GoogleClusterArgs(ClusterArgs):
    """A GKE cluster.

    Attributes:
        project: its ID.
        zone: in which all nodes are.
        maintenance: when nodes may be renewed.
        nat_idle_seconds: until the NAT forgets an idle connection.
        job_pools: for startds.
    """

    project: str
    zone: str
    maintenance: Maintenance
    nat_idle_seconds: int
    job_pools: Sequence[GoogleJobPool]


class GoogleCluster(Cluster):
    """A GKE cluster."""

    def __init__(self, name: str, args: GoogleClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:cluster:GoogleCluster", name, None, opts)
        google = gcp.Provider(
            f"{name}-google",
            project=args.project,
            region=args.region,
            zone=args.zone,
            opts=pulumi.ResourceOptions(parent=self),
        )
        bare = pulumi.ResourceOptions(parent=self, provider=google)
        enabled = [_enabled(name, args.project, service, bare) for service in SERVICES_OF_PROJECT]
        own = pulumi.ResourceOptions(parent=self, provider=google, depends_on=enabled)
        network = node_network(name, args.site, args.project, args.region, args.network, args.nat_idle_seconds, own)
        account = serviceaccount.Account(
            f"{name}-account",
            account_id=naming.google_account(args.site),
            display_name=f"Nodes of the ATLAS site {args.site}",
            opts=own,
        )
        address = after(account, naming.google_account_address(args.site, args.project))
        grants = [_grant(name, args.project, address, label, role, own) for label, role in NODE_ROLES.items()]
        cluster = _cluster(
            name,
            args,
            network,
            pulumi.ResourceOptions(parent=self, provider=google, protect=True, depends_on=enabled),
        )
        home = gcp_pools.Home(
            site=args.site,
            zone=args.zone,
            cluster=after(
                cluster, f"projects/{args.project}/locations/{args.zone}/clusters/{naming.google(args.site)}"
            ),
            account=address,
            drain_seconds=args.drain_seconds,
        )
        # Nodes cannot register before their account may, nor pull images from elsewhere without the NAT.
        ready = pulumi.ResourceOptions(parent=self, provider=google, depends_on=[*grants, network.nat])
        pools = [
            gcp_pools.system_pool(name, home, args.system_pool, ready),
            *(gcp_pools.job_pool(name, home, pool, ready) for pool in args.job_pools),
        ]
        self.region = args.region
        self.pools = [gcp_pools.facts(pool) for pool in args.job_pools]
        self.reach(name, _access(args.site, cluster), f"{args.site}-cluster", needs=[*pools, network.nat])
        self.register_outputs({"kubeconfig": self.kubeconfig, "region": self.region})


def recurring(maintenance: Maintenance) -> container.ClusterMaintenancePolicyRecurringWindowArgs:
    """The window as GKE wants it: a first one, and that it recurs each week."""
    start = MONDAY + timedelta(days=WEEK.index(maintenance.day), hours=maintenance.start_hour_utc)
    return container.ClusterMaintenancePolicyRecurringWindowArgs(
        start_time=_rfc3339(start),
        end_time=_rfc3339(start + timedelta(hours=maintenance.hours)),
        recurrence=f"FREQ=WEEKLY;BYDAY={maintenance.day[:2].upper()}",
    )


def _rfc3339(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _enabled(name: str, project: str, service: str, own: pulumi.ResourceOptions) -> projects.Service:
    return projects.Service(
        f"{name}-service-{service}",
        project=project,
        service=f"{service}.googleapis.com",
        # Others in the project may use it too.
        disable_on_destroy=False,
        opts=own,
    )


def _grant(
    name: str, project: str, account: pulumi.Output[str], label: str, role: str, own: pulumi.ResourceOptions
) -> projects.IAMMember:
    member = pulumi.Output.concat("serviceAccount:", account)
    return projects.IAMMember(f"{name}-grant-{label}", project=project, role=role, member=member, opts=own)


def _cluster(
    name: str, args: GoogleClusterArgs, network: NodeNetwork, own: pulumi.ResourceOptions
) -> container.Cluster:
    return container.Cluster(
        f"{name}-gke",
        name=naming.google(args.site),
        # A zone: one control plane, where all nodes are, which costs nothing for the first cluster of an account.
        location=args.zone,
        min_master_version=args.kubernetes_version,
        release_channel=container.ClusterReleaseChannelArgs(channel="REGULAR"),
        maintenance_policy=container.ClusterMaintenancePolicyArgs(recurring_window=recurring(args.maintenance)),
        # GKE makes no cluster without a pool. No node_config here: with the pool gone it would differ for ever, and the
        # cluster be replaced (pulumi-gcp#744).
        initial_node_count=1,
        remove_default_node_pool=True,
        network=network.network,
        subnetwork=network.subnet,
        networking_mode="VPC_NATIVE",
        datapath_provider="ADVANCED_DATAPATH",
        ip_allocation_policy=container.ClusterIpAllocationPolicyArgs(
            cluster_secondary_range_name=PODS, services_secondary_range_name=SERVICES
        ),
        private_cluster_config=container.ClusterPrivateClusterConfigArgs(
            enable_private_nodes=True, enable_private_endpoint=False
        ),
        master_authorized_networks_config=container.ClusterMasterAuthorizedNetworksConfigArgs(
            cidr_blocks=[
                container.ClusterMasterAuthorizedNetworksConfigCidrBlockArgs(cidr_block=one)
                for one in args.authorized_networks
            ],
            # Else every virtual machine of every customer of Google's could ask the API server.
            gcp_public_cidrs_access_enabled=False,
        ),
        workload_identity_config=container.ClusterWorkloadIdentityConfigArgs(
            workload_pool=f"{args.project}.svc.id.goog"
        ),
        addons_config=container.ClusterAddonsConfigArgs(
            http_load_balancing=container.ClusterAddonsConfigHttpLoadBalancingArgs(disabled=True),
            horizontal_pod_autoscaling=container.ClusterAddonsConfigHorizontalPodAutoscalingArgs(disabled=True),
        ),
        # Metrics of the system are free; logs, and metrics of Prometheus, are paid for by their volume.
        logging_config=container.ClusterLoggingConfigArgs(enable_components=[]),
        monitoring_config=container.ClusterMonitoringConfigArgs(
            enable_components=["SYSTEM_COMPONENTS"],
            managed_prometheus=container.ClusterMonitoringConfigManagedPrometheusArgs(enabled=False),
        ),
        cost_management_config=container.ClusterCostManagementConfigArgs(enabled=True),
        resource_labels=cost_tags(args.site),
        deletion_protection=True,
        opts=own,
    )


def _access(site: str, cluster: container.Cluster) -> pulumi.Output[str]:
    """How it is reached; an empty text of a cluster that could not be made, and so tells nothing of itself."""
    authority = cluster.master_auth.apply(lambda told: told.cluster_ca_certificate if told else None)
    return pulumi.Output.all(cluster.endpoint, authority).apply(
        lambda told: kubeconfig(naming.google(site), *told) if all(told) else ""
    )
