"""What the parts of an EKS cluster may do in their account: one IAM role for each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_aws import iam

from components import naming

CLUSTER, NODES, AUTOSCALER = "cluster", "nodes", "autoscaler"
# AWS's own policies: docs.aws.amazon.com/eks/latest/userguide/security-iam-awsmanpol.html. Nodes pull images, and no
# more; their pods cannot reach the nodes' credentials.
POLICIES: Mapping[str, tuple[str, ...]] = {
    CLUSTER: ("AmazonEKSClusterPolicy",),
    NODES: ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"),
    AUTOSCALER: (),
}
TRUSTED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    CLUSTER: ("eks.amazonaws.com", ("sts:AssumeRole",)),
    NODES: ("ec2.amazonaws.com", ("sts:AssumeRole",)),
    # EKS Pod Identity: which pod has the role is said by the association, not by the role.
    AUTOSCALER: ("pods.eks.amazonaws.com", ("sts:AssumeRole", "sts:TagSession")),
}
# In China services have names of their own domain.
_CHINA = "cn-"
_PARTITIONS = {_CHINA: "aws-cn", "us-gov-": "aws-us-gov"}
# kubernetes/autoscaler, cluster-autoscaler/cloudprovider/aws/README.md, without what finds groups by their tags.
_LOOKS = (
    "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeScalingActivities", "ec2:DescribeImages",
    "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplateVersions", "ec2:GetInstanceTypesFromInstanceRequirements",
    "eks:DescribeNodegroup",
)  # fmt: skip
_ACTS = ("autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup")


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role and what makes it what it is.

    Attributes:
        arn: by which AWS knows it.
        needs: without which whoever has it can do nothing.
    """

    arn: str
    needs: Sequence[pulumi.Resource]


def partition(region: str) -> str:
    """Which of Amazon's clouds a region is in."""
    return next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")


def role(name: str, site: str, account: str, region: str, part: str, own: pulumi.ResourceOptions) -> Role:
    """The role of one part: its name and number are known before it is there.

    Args:
        name: of the component.
        site: the name that it bears for good.
        account: its number.
        region: of the cluster.
        part: whose role it is.
        own: options of each resource.
    """
    cloud = partition(region)
    called = naming.amazon_role(site, part)
    made = iam.Role(f"{name}-role-{part}", name=called, assume_role_policy=json.dumps(trust(part, cloud)), opts=own)
    bound = pulumi.ResourceOptions.merge(own, pulumi.ResourceOptions(depends_on=[made]))
    attached = [
        iam.RolePolicyAttachment(
            f"{name}-grant-{part}-{index}",
            role=called,
            policy_arn=f"arn:{cloud}:iam::aws:policy/{policy}",
            opts=bound,
        )
        for index, policy in enumerate(POLICIES[part])
    ]
    if part == AUTOSCALER:
        policy = json.dumps(scaling(naming.amazon(site)))
        own_policy = iam.RolePolicy(f"{name}-grant-{part}", name="scaling", role=called, policy=policy, opts=bound)
        return Role(arn=f"arn:{cloud}:iam::{account}:role/{called}", needs=[made, own_policy])
    return Role(arn=f"arn:{cloud}:iam::{account}:role/{called}", needs=[made, *attached])


def trust(part: str, cloud: str) -> dict[str, Any]:
    """Who may have the role."""
    service, actions = TRUSTED[part]
    domain = ".cn" if cloud == _PARTITIONS[_CHINA] and service.startswith("ec2.") else ""
    return _document(
        [{"Effect": "Allow", "Principal": {"Service": f"{service}{domain}"}, "Action": list(actions)}],
    )


def scaling(cluster: str) -> dict[str, Any]:
    """What the autoscaler may do: change the number of nodes of this cluster, and of no other."""
    ours = {"StringEquals": {"aws:ResourceTag/eks:cluster-name": cluster}}
    return _document(
        [
            {"Effect": "Allow", "Action": list(_LOOKS), "Resource": "*"},
            {"Effect": "Allow", "Action": list(_ACTS), "Resource": "*", "Condition": ours},
        ]
    )


def _document(statements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
