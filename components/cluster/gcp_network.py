"""The network of a GKE cluster's nodes, and their way out."""

from dataclasses import dataclass

import pulumi
from pulumi_gcp import compute

from components import naming
from components.after import after
from components.cluster import gcp_nodes

PODS, SERVICES = "pods", "services"
# Each node has the least from the start and takes twice as many when they run out, up to the most; powers of two.
PORTS_LEAST, PORTS_MOST = 256, 8192


@dataclass(frozen=True, kw_only=True)
class NodeNetwork:
    """Where nodes are, and what takes their connections outside.

    Attributes:
        network, subnet: their names in full.
        nat: the way out.
    """

    network: pulumi.Output[str]
    subnet: pulumi.Output[str]
    nat: compute.RouterNat


def node_network(
    name: str, site: str, project: str, region: str, nodes: str, idle_seconds: int, own: pulumi.ResourceOptions
) -> NodeNetwork:
    """The network with its one subnet, and the NAT.

    Args:
        name: of the component.
        site: the name that it bears for good.
        project: its ID.
        region: of all of it.
        nodes: the network of the nodes, as a CIDR.
        idle_seconds: until the NAT forgets an idle connection.
        own: options of each resource.
    """
    network = compute.Network(
        f"{name}-network",
        name=naming.google(site),
        auto_create_subnetworks=False,
        opts=own,
    )
    network_name = after(network, f"projects/{project}/global/networks/{naming.google(site)}")
    subnet = compute.Subnetwork(
        f"{name}-subnet",
        name=naming.google(site),
        network=network_name,
        region=region,
        ip_cidr_range=nodes,
        # The registry and other services of Google's are reached past the NAT, for nothing.
        private_ip_google_access=True,
        secondary_ip_ranges=[
            compute.SubnetworkSecondaryIpRangeArgs(range_name=PODS, ip_cidr_range=gcp_nodes.PODS_NETWORK),
            compute.SubnetworkSecondaryIpRangeArgs(range_name=SERVICES, ip_cidr_range=gcp_nodes.SERVICES_NETWORK),
        ],
        opts=own,
    )
    router = compute.Router(f"{name}-router", name=naming.google(site), network=network_name, region=region, opts=own)
    nat = compute.RouterNat(
        f"{name}-nat",
        name=naming.google(site),
        router=after(router, naming.google(site)),
        region=region,
        nat_ip_allocate_option="AUTO_ONLY",
        source_subnetwork_ip_ranges_to_nat="ALL_SUBNETWORKS_ALL_IP_RANGES",
        enable_dynamic_port_allocation=True,
        # Ports cannot be dealt out as they are needed with it.
        enable_endpoint_independent_mapping=False,
        min_ports_per_vm=PORTS_LEAST,
        max_ports_per_vm=PORTS_MOST,
        tcp_established_idle_timeout_sec=idle_seconds,
        opts=own,
    )
    subnet_name = f"projects/{project}/regions/{region}/subnetworks/{naming.google(site)}"
    return NodeNetwork(network=network_name, subnet=after(subnet, subnet_name), nat=nat)
