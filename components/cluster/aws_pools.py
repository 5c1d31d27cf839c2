"""The node groups of an EKS cluster."""

import base64
from dataclasses import dataclass

import pulumi
from pulumi_aws import autoscaling, ec2, eks

from components import naming
from components.after import NOT_MADE
from components.cluster import aws_nodes
from components.cluster.machines import machines
from components.cluster.plan import JobPool, SystemPool
from components.cluster.pools import JOBS, LABEL, SYSTEM, NodePool, promised
from components.labels import cost_tags

# EKS's own words for the effects of taints.
EFFECTS = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}
# Amazon Linux 2023, whose nodeadm puts the kubelet on local disks; on Bottlerocket no mount reaches other pods.
IMAGE = "AL2023_x86_64_STANDARD"
# EKS changes these by making each node anew, with 15 minutes for its pods to leave. As a replacement the engine refuses
# it of what is protected, and the way is a new generation.
NODES_ANEW = ["launchTemplate", "releaseVersion", "version"]
# What else the settings of a pool can change, and EKS cannot.
GROUP_ANEW = ["capacityType", "instanceTypes"]
# By which the autoscaler knows what a node of an empty group would be; EKS tells it of labels and taints, not of disks.
HINTS = "k8s.io/cluster-autoscaler/node-template"


@dataclass(frozen=True, kw_only=True)
class AmazonJobPool(JobPool):
    """A pool of EKS.

    Attributes:
        release: of the nodes' image, as in 1.34.1-20260720; None for the newest when the pool is made.
    """

    release: str | None


@dataclass(frozen=True, kw_only=True)
class Home:
    """What all pools of a cluster have in common.

    Attributes:
        site: the name that it bears for good.
        role: ARN of the nodes' role.
        subnet: of all nodes.
        version: of Kubernetes.
    """

    site: str
    role: str
    subnet: pulumi.Input[str]
    version: str


def system_pool(name: str, home: Home, pool: SystemPool, own: pulumi.ResourceOptions) -> eks.NodeGroup:
    """Nodes of squids and services, which are renewed one by one as the cluster's version rises."""
    machine = machines("aws")[pool.size]
    data = aws_nodes.user_data(local_disks=True, pods=None) if machine.disk_gib else None
    template = _template(name, home, SYSTEM, data, own)
    return eks.NodeGroup(
        f"{name}-pool-{SYSTEM}",
        node_group_name=SYSTEM,
        cluster_name=naming.amazon(home.site),
        node_role_arn=home.role,
        subnet_ids=[home.subnet],
        ami_type=IMAGE,
        capacity_type="ON_DEMAND",
        instance_types=[pool.size],
        version=home.version,
        launch_template=eks.NodeGroupLaunchTemplateArgs(
            name=naming.amazon_template(home.site, SYSTEM),
            version=template.latest_version.apply(str),
        ),
        scaling_config=eks.NodeGroupScalingConfigArgs(
            min_size=pool.nodes, desired_size=pool.nodes, max_size=pool.nodes
        ),
        update_config=eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
        tags=cost_tags(home.site, SYSTEM),
        opts=pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[template])),
    )


def job_pool(name: str, home: Home, pool: AmazonJobPool, own: pulumi.ResourceOptions) -> eks.NodeGroup:
    """Nodes of startds, made by the autoscaler, which alone knows how many there may be.

    The provider sends the number of nodes that it remembers with each change of the bounds, and nodes with payloads
    would go: so the group's bounds are the widest for good, and the site's are the autoscaler's.

    The nodes stay as they are made, Kubernetes' version and all: EKS gives a node 15 minutes to become empty.
    """
    machine = machines("aws")[pool.size]
    data = aws_nodes.user_data(local_disks=True, pods=aws_nodes.most_pods(machine))
    template = _template(name, home, pool.full_name, data, own)
    options = pulumi.ResourceOptions(
        depends_on=[template],
        protect=not pool.retiring,
        # A pool that retires is not protected, and so stays as it is: a replacement would end its payloads.
        ignore_changes=["scalingConfig", *((*NODES_ANEW, *GROUP_ANEW) if pool.retiring else ())],
        replace_on_changes=NODES_ANEW,
        # A name is taken until its group is gone.
        delete_before_replace=True,
    )
    return eks.NodeGroup(
        f"{name}-pool-{pool.full_name}",
        node_group_name=pool.full_name,
        cluster_name=naming.amazon(home.site),
        node_role_arn=home.role,
        subnet_ids=[home.subnet],
        ami_type=IMAGE,
        capacity_type="SPOT" if pool.spot else "ON_DEMAND",
        instance_types=[pool.size],
        release_version=pool.release,
        # The first version for good, for the same reason: a later one is for the next generation.
        launch_template=eks.NodeGroupLaunchTemplateArgs(
            name=naming.amazon_template(home.site, pool.full_name), version="1"
        ),
        scaling_config=eks.NodeGroupScalingConfigArgs(
            min_size=0, desired_size=0 if pool.retiring else pool.least, max_size=aws_nodes.NODES_MOST
        ),
        labels={LABEL: pool.full_name},
        taints=[eks.NodeGroupTaintArgs(key=JOBS.key, value=JOBS.value, effect=EFFECTS[JOBS.effect])],
        tags=cost_tags(home.site, pool.full_name),
        opts=pulumi.ResourceOptions.merge(own, options),
    )


def group_of(pool: eks.NodeGroup) -> pulumi.Output[str]:
    """The name that AWS gave to the Auto Scaling group of a pool."""
    return pool.resources.apply(
        lambda made: str(made[0].autoscaling_groups[0].name) if made and made[0].autoscaling_groups else NOT_MADE
    )


def hints(
    name: str, pool: AmazonJobPool, group: pulumi.Input[str], own: pulumi.ResourceOptions
) -> list[autoscaling.Tag]:
    """What the autoscaler is told of nodes that are not there yet."""
    told = {
        "label": (f"label/{LABEL}", pool.full_name),
        "taint": (f"taint/{JOBS.key}", f"{JOBS.value}:{JOBS.effect}"),
        "disk": ("resources/ephemeral-storage", f"{facts(pool).disk_mib}Mi"),
    }
    return [
        autoscaling.Tag(
            f"{name}-hint-{pool.full_name}-{what}",
            autoscaling_group_name=group,
            tag=autoscaling.TagTagArgs(key=f"{HINTS}/{key}", value=value, propagate_at_launch=False),
            opts=own,
        )
        for what, (key, value) in told.items()
    ]


def facts(pool: AmazonJobPool) -> NodePool:
    """What the rest of the site is told of a job pool."""
    machine = machines("aws")[pool.size]
    return promised(pool, aws_nodes.room(machine), taints=[JOBS], list_price=machine.price(spot=pool.spot))


def _template(
    name: str, home: Home, label: str, user_data: str | None, own: pulumi.ResourceOptions
) -> ec2.LaunchTemplate:
    tags = cost_tags(home.site, label)
    return ec2.LaunchTemplate(
        f"{name}-template-{label}",
        name=naming.amazon_template(home.site, label),
        user_data=None if user_data is None else base64.b64encode(user_data.encode()).decode(),
        block_device_mappings=[
            ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name="/dev/xvda",
                ebs=ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                    volume_type="gp3",
                    volume_size=aws_nodes.ROOT_DISK_GIB,
                    encrypted="true",
                    delete_on_termination="true",
                ),
            )
        ],
        # One hop: from a pod, the node's credentials are two away.
        metadata_options=ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        # What the provider puts on all that it makes does not reach what Auto Scaling makes.
        tag_specifications=[
            ec2.LaunchTemplateTagSpecificationArgs(resource_type=made, tags=tags) for made in ("instance", "volume")
        ],
        tags=tags,
        opts=pulumi.ResourceOptions(parent=own.parent, provider=own.provider),
    )
