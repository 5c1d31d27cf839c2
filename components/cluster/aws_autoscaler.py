"""The cluster-autoscaler of an EKS cluster, which no other cloud leaves to us."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.rbac import v1 as rbac

from components import pods, service
from components.cluster.aws_pools import AmazonJobPool
from components.labels import labels, selector

NAME = "cluster-autoscaler"
NAMESPACE = "kube-system"
READY_TIMEOUT = "5m"
_READ = ["get", "list", "watch"]


@dataclass(frozen=True, kw_only=True)
class AutoscalerArgs:
    """What the autoscaler works on.

    Attributes:
        site: the name that it bears for good.
        region: of the cluster.
        image: by digest.
        pools: with the names of their Auto Scaling groups.
        drain_seconds: that a startd may take to leave.
    """

    site: str
    region: str
    image: str
    pools: Sequence[tuple[AmazonJobPool, pulumi.Output[str]]]
    drain_seconds: int


class Autoscaler(pulumi.ComponentResource):
    """Makes nodes while startds wait for one, and takes them when they are empty."""

    def __init__(
        self,
        name: str,
        args: AutoscalerArgs,
        opts: pulumi.ResourceOptions | None = None,
        *,
        needs: Sequence[pulumi.Resource] = (),
    ) -> None:
        """Declares the workload.

        Args:
            name: of the component.
            args: what it works on.
            opts: with the cluster's provider.
            needs: its identity above all: EKS gives a pod one when it is made, or never.
        """
        super().__init__("atlas-sites:cluster:Autoscaler", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        everywhere = meta.ObjectMetaArgs(name=NAME, labels=labels(args.site, NAME))
        known_as = (NAME, NAMESPACE)
        account = core.ServiceAccount(f"{name}-account", metadata=_metadata(args), opts=own)
        on_all = rbac.ClusterRole(f"{name}-role", metadata=everywhere, rules=cluster_rules(), opts=own)
        on_own = rbac.Role(f"{name}-own-role", metadata=_metadata(args), rules=own_rules(), opts=own)
        bound_to_all = service.bound_everywhere(f"{name}-binding", everywhere, NAME, known_as, [on_all, account], own)
        bound_to_own = service.bound(f"{name}-own-binding", _metadata(args), NAME, known_as, [on_own, account], own)
        _deployment(f"{name}-workload", args, self, [account, bound_to_all, bound_to_own, *needs])
        self.register_outputs({"namespace": NAMESPACE})


def flags(args: AutoscalerArgs) -> list[pulumi.Input[str]]:
    """How nodes come and go; what is not said is the autoscaler's default."""
    return [
        "--cloud-provider=aws",
        "--v=2",
        "--stderrthreshold=info",
        f"--address=:{pods.HTTP_PORT}",
        "--expander=least-waste",
        # Of a pool that is new, or was emptied by hand, the least come back too.
        "--enforce-node-group-min-size=true",
        # Each startd has an emptyDir: no node that had one would ever go.
        "--skip-nodes-with-local-storage=false",
        # The mounter of CVMFS is on each node, and alone is no reason to keep one; it must outlive the startds.
        "--ignore-daemonsets-utilization=true",
        "--daemonset-eviction-for-occupied-nodes=false",
        "--daemonset-eviction-for-empty-nodes=false",
        f"--max-graceful-termination-sec={args.drain_seconds}",
        # With the groups' names given, their tags tell it nothing of how many nodes there may be.
        *(_bounds(pool, group) for pool, group in args.pools),
    ]


def _bounds(pool: AmazonJobPool, group: pulumi.Output[str]) -> pulumi.Output[str]:
    least = 0 if pool.retiring else pool.least
    return pulumi.Output.format("--nodes={0}:{1}:{2}", least, pool.most, group)


def cluster_rules() -> list[rbac.PolicyRuleArgs]:
    """What it may see and do on the whole cluster: as its own example for AWS says."""
    return [
        _rule("", ["events", "endpoints"], ["create", "patch"]),
        _rule("", ["pods/eviction"], ["create"]),
        _rule("", ["pods/status"], ["update"]),
        _rule("", ["nodes"], [*_READ, "update"]),
        _rule(
            "",
            ["namespaces", "pods", "services", "replicationcontrollers", "persistentvolumeclaims", "persistentvolumes"],
            _READ,
        ),
        _rule("policy", ["poddisruptionbudgets"], _READ),
        _rule("apps", ["statefulsets", "replicasets", "daemonsets"], _READ),
        _rule("batch", ["jobs"], _READ),
        _rule(
            "storage.k8s.io",
            ["storageclasses", "csinodes", "csidrivers", "csistoragecapacities", "volumeattachments"],
            _READ,
        ),
        _rule("resource.k8s.io", ["resourceclaims", "resourceslices", "deviceclasses"], _READ),
    ]


def own_rules() -> list[rbac.PolicyRuleArgs]:
    """What it may do in its own namespace: tell how it does, and lead."""
    status = ["cluster-autoscaler-status", "cluster-autoscaler-priority-expander"]
    return [
        _rule("", ["configmaps"], ["create", "list", "watch"]),
        rbac.PolicyRuleArgs(
            api_groups=[""],
            resources=["configmaps"],
            resource_names=status,
            verbs=["delete", "get", "update", "watch"],
        ),
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        rbac.PolicyRuleArgs(
            api_groups=["coordination.k8s.io"], resources=["leases"], resource_names=[NAME], verbs=["get", "update"]
        ),
    ]


def _deployment(
    resource: str, args: AutoscalerArgs, parent: pulumi.Resource, needs: Sequence[pulumi.Resource]
) -> apps.Deployment:
    return apps.Deployment(
        resource,
        metadata=_metadata(args),
        spec=apps.DeploymentSpecArgs(
            replicas=1,
            selector=meta.LabelSelectorArgs(match_labels=selector(args.site, NAME)),
            strategy=apps.DeploymentStrategyArgs(type="Recreate"),
            template=core.PodTemplateSpecArgs(
                metadata=meta.ObjectMetaArgs(labels=labels(args.site, NAME)),
                spec=core.PodSpecArgs(
                    service_account_name=NAME,
                    priority_class_name="system-cluster-critical",
                    security_context=pods.running_as(pods.SERVICE_UID),
                    containers=[_container(args)],
                ),
            ),
        ),
        opts=pulumi.ResourceOptions(
            parent=parent,
            depends_on=list(needs),
            custom_timeouts=pulumi.CustomTimeouts(create=READY_TIMEOUT, update=READY_TIMEOUT),
        ),
    )


def _container(args: AutoscalerArgs) -> core.ContainerArgs:
    return core.ContainerArgs(
        name=NAME,
        image=args.image,
        command=["/cluster-autoscaler"],
        args=flags(args),
        env=[core.EnvVarArgs(name="AWS_REGION", value=args.region)],
        ports=[core.ContainerPortArgs(name="http", container_port=pods.HTTP_PORT)],
        security_context=pods.unprivileged(),
        resources=pods.resources(cores="100m", most_cores="1", memory="1Gi"),
        readiness_probe=pods.http_probe("/health-check", period=10, failures=3),
        liveness_probe=pods.http_probe("/health-check", period=60, failures=10),
    )


def _rule(group: str, resources: list[str], verbs: list[str]) -> rbac.PolicyRuleArgs:
    return rbac.PolicyRuleArgs(api_groups=[group], resources=resources, verbs=verbs)


def _metadata(args: AutoscalerArgs) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(name=NAME, namespace=NAMESPACE, labels=labels(args.site, NAME))
