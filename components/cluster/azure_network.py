"""The network of an AKS cluster's nodes, and their way out."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_azure_native import containerservice as aks, network

from components import naming
from components.after import after
from components.labels import cost_tags

LOAD_BALANCER = "loadBalancer"


@dataclass(frozen=True, kw_only=True)
class AzureOutbound:
    """How nodes reach the outside.

    Attributes:
        by: loadBalancer or natGateway.
        idle_minutes: until an idle connection is forgotten.
        ports_per_node: of the load balancer.
        addresses: public ones.
    """

    by: str
    idle_minutes: int
    ports_per_node: int
    addresses: int


@dataclass(frozen=True, kw_only=True)
class NodeNetwork:
    """Where nodes are.

    Attributes:
        subnet: of the nodes, by its ID.
        ways_out: the networks that they are seen from, where AKS does not know them by itself.
    """

    subnet: pulumi.Output[str]
    ways_out: Sequence[pulumi.Output[str]]


def node_network(
    name: str,
    site: str,
    subscription: str,
    group: pulumi.Input[str],
    nodes: str,
    outbound: AzureOutbound,
    own: pulumi.ResourceOptions,
) -> NodeNetwork:
    """The network, its one subnet and, where there is one, the NAT gateway.

    Args:
        name: of the component.
        site: the name that it bears for good.
        subscription: its UUID.
        group: the resource group's name.
        nodes: the network, as a CIDR.
        outbound: the way out.
        own: options of each resource.
    """
    space = network.VirtualNetwork(
        f"{name}-network",
        virtual_network_name=naming.azure(site),
        resource_group_name=group,
        address_space=network.AddressSpaceArgs(address_prefixes=[nodes]),
        tags=cost_tags(site),
        opts=own,
    )
    addresses = [] if outbound.by == LOAD_BALANCER else _addresses(name, site, group, outbound.addresses, own)
    gateway = _gateway(name, site, group, addresses, outbound.idle_minutes, own) if addresses else None
    subnet = network.Subnet(
        f"{name}-subnet",
        subnet_name="nodes",
        virtual_network_name=after(space, naming.azure(site)),
        resource_group_name=group,
        address_prefix=nodes,
        nat_gateway=network.SubResourceArgs(id=gateway.id) if gateway else None,
        opts=own,
    )
    of_group = f"/subscriptions/{subscription}/resourceGroups/{naming.azure(site)}/providers/Microsoft.Network"
    identifier = f"{of_group}/virtualNetworks/{naming.azure(site)}/subnets/nodes"
    return NodeNetwork(
        subnet=after(subnet, identifier), ways_out=[pulumi.Output.format("{0}/32", one.ip_address) for one in addresses]
    )


def load_balancer(outbound: AzureOutbound) -> aks.ManagedClusterLoadBalancerProfileArgs | None:
    """The outbound side of the cluster's load balancer; none where there is a NAT gateway.

    With ports left to Azure each node's share falls as nodes are added, and connections break (at 50 nodes: 1024 to
    512).
    """
    if outbound.by != LOAD_BALANCER:
        return None
    return aks.ManagedClusterLoadBalancerProfileArgs(
        allocated_outbound_ports=outbound.ports_per_node,
        idle_timeout_in_minutes=outbound.idle_minutes,
        managed_outbound_ips=aks.ManagedClusterLoadBalancerProfileManagedOutboundIPsArgs(count=outbound.addresses),
    )


def _addresses(
    name: str, site: str, group: pulumi.Input[str], number: int, own: pulumi.ResourceOptions
) -> list[network.PublicIPAddress]:
    return [
        network.PublicIPAddress(
            f"{name}-address-{index}",
            public_ip_address_name=naming.azure_address(site, index),
            resource_group_name=group,
            public_ip_allocation_method="Static",
            sku=network.PublicIPAddressSkuArgs(name="Standard"),
            tags=cost_tags(site),
            opts=own,
        )
        for index in range(number)
    ]


def _gateway(
    name: str,
    site: str,
    group: pulumi.Input[str],
    addresses: Sequence[network.PublicIPAddress],
    idle_minutes: int,
    own: pulumi.ResourceOptions,
) -> network.NatGateway:
    """Ours and not AKS's, which does not go with a network of ours, and forgets connections after 4 minutes."""
    return network.NatGateway(
        f"{name}-gateway",
        nat_gateway_name=naming.azure(site),
        resource_group_name=group,
        sku=network.NatGatewaySkuArgs(name="Standard"),
        public_ip_addresses=[network.SubResourceArgs(id=address.id) for address in addresses],
        idle_timeout_in_minutes=idle_minutes,
        tags=cost_tags(site),
        opts=own,
    )
