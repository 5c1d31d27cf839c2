"""The network of an EKS cluster's nodes, and their way out."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_aws import ec2

from components import naming
from components.after import id_of
from components.cluster import aws_nodes

EVERYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, kw_only=True)
class NodeNetwork:
    """Where nodes are.

    Attributes:
        nodes: the subnet of all nodes and pods.
        second: that of the second zone.
        way_out: without which no node reaches anything.
    """

    nodes: ec2.Subnet
    second: ec2.Subnet
    way_out: Sequence[pulumi.Resource]


def node_network(
    name: str, site: str, region: str, network: str, zones: tuple[str, str], own: pulumi.ResourceOptions
) -> NodeNetwork:
    """The network with its subnets, and the NAT gateway.

    Args:
        name: of the component.
        site: the name that it bears for good.
        region: of all of it.
        network: of the nodes, as a CIDR.
        zones: of all nodes, and the second one.
        own: options of each resource.
    """
    parts = aws_nodes.subnets(network)
    here, second_zone = zones
    vpc = ec2.Vpc(
        f"{name}-network",
        cidr_block=network,
        enable_dns_support=True,
        # Nodes find the API server's private address by its name.
        enable_dns_hostnames=True,
        tags=_called(site, "network"),
        opts=own,
    )
    nodes = _subnet(f"{name}-subnet-nodes", site, vpc, parts.nodes, here, own)
    second = _subnet(f"{name}-subnet-second", site, vpc, parts.second, second_zone, own)
    public = _subnet(f"{name}-subnet-public", site, vpc, parts.public, here, own)
    gateway = ec2.InternetGateway(f"{name}-internet", vpc_id=id_of(vpc), tags=_called(site, "internet"), opts=own)
    address = ec2.Eip(f"{name}-address", domain="vpc", tags=_called(site, "nat"), opts=own)
    outside, outside_of_subnet = _routes(f"{name}-public", site, vpc, public, own)
    to_internet = ec2.Route(
        f"{name}-public-route",
        route_table_id=id_of(outside),
        destination_cidr_block=EVERYWHERE,
        gateway_id=id_of(gateway),
        opts=own,
    )
    nat = ec2.NatGateway(
        f"{name}-nat",
        allocation_id=id_of(address),
        subnet_id=id_of(public),
        tags=_called(site, "nat"),
        opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[to_internet, outside_of_subnet])),
    )
    inside, inside_of_subnet = _routes(f"{name}-nodes", site, vpc, nodes, own)
    to_nat = ec2.Route(
        f"{name}-nodes-route",
        route_table_id=id_of(inside),
        destination_cidr_block=EVERYWHERE,
        nat_gateway_id=id_of(nat),
        opts=own,
    )
    storage = ec2.VpcEndpoint(
        f"{name}-storage",
        vpc_id=id_of(vpc),
        vpc_endpoint_type="Gateway",
        # Layers of images in ECR are in S3: past the NAT gateway they cost nothing.
        service_name=f"com.amazonaws.{region}.s3",
        route_table_ids=[id_of(inside)],
        tags=_called(site, "storage"),
        opts=own,
    )
    return NodeNetwork(nodes=nodes, second=second, way_out=[to_nat, inside_of_subnet, storage])


def _subnet(resource: str, site: str, vpc: ec2.Vpc, network: str, zone: str, own: pulumi.ResourceOptions) -> ec2.Subnet:
    label = resource.rsplit("-", 1)[-1]
    return ec2.Subnet(
        resource,
        vpc_id=id_of(vpc),
        cidr_block=network,
        availability_zone=zone,
        map_public_ip_on_launch=False,
        tags=_called(site, label),
        opts=own,
    )


def _routes(
    resource: str, site: str, vpc: ec2.Vpc, subnet: ec2.Subnet, own: pulumi.ResourceOptions
) -> tuple[ec2.RouteTable, ec2.RouteTableAssociation]:
    """The table of a subnet's routes, and what makes it the subnet's."""
    label = resource.rsplit("-", 1)[-1]
    table = ec2.RouteTable(f"{resource}-routes", vpc_id=id_of(vpc), tags=_called(site, label), opts=own)
    return table, ec2.RouteTableAssociation(
        f"{resource}-routes-of-subnet", route_table_id=id_of(table), subnet_id=id_of(subnet), opts=own
    )


def _called(site: str, part: str) -> dict[str, str]:
    """What the console calls it."""
    return {"Name": f"{naming.amazon(site)}-{part}"}
