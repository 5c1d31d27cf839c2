"""Nodes that look after themselves: a monitor on each, and a controller that takes the bad ones out of use.

Only this part of the program taints or cordons nodes. It never deletes one: a node that is cordoned and empty is what
an autoscaler removes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi
from pulumi_kubernetes.admissionregistration import v1 as admission
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.rbac import v1 as rbac

from components import agent, naming, pods, service
from components.labels import labels, selector
from components.vacuum import GROUP, POOLS, POOLS_DIRECTORY

NAME = "nodehealth"
MONITOR = "node-monitor"
KERNEL_LOG = "/dev/kmsg"
REPOSITORIES = "/cvmfs"
# By which the API server knows on which node the pod runs that a token was given to.
NODE_CLAIM = "authentication.kubernetes.io/node-name"


@dataclass(frozen=True, kw_only=True)
class NodesArgs:
    """What is watched and what is done about it.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one, of the controller.
        system: the privileged one, of the monitors.
        priority: the priority class of what startds depend on.
        image: of the services.
        mode: `cordon` takes bad nodes out of use; `report` only tells, and may not.
        quiet_seconds: without a sign, after which a problem is over and its node is given back.
        cvmfs_path: the directory of each node below which the repositories are; None if they are nowhere on it.
        repositories: that must be readable there.
    """

    site: str
    namespace: pulumi.Input[str]
    system: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    mode: Literal["cordon", "report"]
    quiet_seconds: int
    cvmfs_path: str | None
    repositories: Sequence[str]


class Nodes(pulumi.ComponentResource):
    """Monitors and their controller.

    Attributes:
        metrics: of the controller, where Prometheus may ask it.
    """

    metrics: str

    def __init__(self, name: str, args: NodesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Nodes", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        _monitors(name, args, self)
        described = service.ServiceArgs(
            site=args.site,
            namespace=args.namespace,
            priority=args.priority,
            image=args.image,
            name=NAME,
            # By its Lease only one acts.
            strategy=apps.DeploymentStrategyArgs(type="RollingUpdate"),
            # The node of one of them may be the one that is bad.
            replicas=2,
            environment={"MODE": args.mode, "QUIET_SECONDS": str(args.quiet_seconds)},
            files={POOLS_DIRECTORY: POOLS},
            cores="20m",
            memory="128Mi",
        )
        account = service.account(f"{name}-account", described, own)
        binding = service.allowed(name, described, rules(), account, own)
        everywhere = _for_nodes(
            f"{name}-nodes", naming.node_keeper(args.site), args, node_rules(args.mode), (NAME, args.namespace), own
        )
        service.deployment(f"{name}-controller", described, self, [account, binding, everywhere])
        service.metrics(f"{name}-metrics", described, own)
        self.metrics = service.metrics_address(args.site, NAME)
        self.register_outputs({"metrics": self.metrics})


def rules() -> list[rbac.PolicyRuleArgs]:
    """All that the controller may do in its own namespace."""
    return [
        rbac.PolicyRuleArgs(api_groups=[GROUP], resources=["startdsets"], verbs=["list", "watch"]),
        rbac.PolicyRuleArgs(api_groups=["coordination.k8s.io"], resources=["leases"], verbs=["create"]),
        rbac.PolicyRuleArgs(
            api_groups=["coordination.k8s.io"], resources=["leases"], resource_names=[NAME], verbs=["get", "update"]
        ),
    ]


def node_rules(mode: str) -> list[rbac.PolicyRuleArgs]:
    """All that it may do to nodes, which belong to no namespace."""
    verbs = ["list", "watch", *(["patch"] if mode == "cordon" else [])]
    return [rbac.PolicyRuleArgs(api_groups=[""], resources=["nodes"], verbs=verbs)]


def monitor_rules() -> list[rbac.PolicyRuleArgs]:
    """All that a monitor may do; by the admission policy, to its own node alone."""
    return [
        rbac.PolicyRuleArgs(api_groups=[""], resources=["nodes"], verbs=["get"]),
        rbac.PolicyRuleArgs(api_groups=[""], resources=["nodes/status"], verbs=["patch"]),
    ]


def _for_nodes(
    resource: str,
    name: str,
    args: NodesArgs,
    allowed: list[rbac.PolicyRuleArgs],
    account: tuple[str, pulumi.Input[str]],
    own: pulumi.ResourceOptions,
) -> rbac.ClusterRoleBinding:
    metadata = meta.ObjectMetaArgs(name=name, labels=labels(args.site, account[0]))
    role = rbac.ClusterRole(resource, metadata=metadata, rules=allowed, opts=own)
    return service.bound_everywhere(f"{resource}-binding", metadata, name, account, [role], own)


def _monitors(name: str, args: NodesArgs, parent: pulumi.Resource) -> None:
    own = pulumi.ResourceOptions(parent=parent)
    described = agent.AgentArgs(
        site=args.site,
        namespace=args.system,
        name=MONITOR,
        api=True,
        container=_monitor(args),
        volumes=[
            agent.of_node("kmsg", KERNEL_LOG, "CharDevice"),
            *([agent.of_node("cvmfs", args.cvmfs_path)] if args.cvmfs_path else []),
        ],
    )
    account = agent.account(f"{name}-monitor-account", described, own)
    permissions = _for_nodes(
        f"{name}-monitor", naming.node_monitor(args.site), args, monitor_rules(), (MONITOR, args.system), own
    )
    _own_node_only(name, args, own)
    agent.daemon_set(f"{name}-monitors", described, account, [permissions], own)
    core.Service(
        f"{name}-monitor-metrics",
        metadata=agent.metadata(described, {"pulumi.com/skipAwait": "true", **pods.scraped(pods.HTTP_PORT)}),
        spec=core.ServiceSpecArgs(
            # Without an address of its own: each monitor is asked for itself.
            cluster_ip="None",
            selector=selector(args.site, MONITOR),
            ports=[core.ServicePortArgs(name="http", port=pods.HTTP_PORT)],
        ),
        opts=own,
    )


def _monitor(args: NodesArgs) -> core.ContainerArgs:
    return core.ContainerArgs(
        name=MONITOR,
        image=args.image,
        args=["python3", "-m", f"services.{NAME}", "monitor"],
        env=[
            pods.from_field("NODE_NAME", "spec.nodeName"),
            core.EnvVarArgs(name="REPOSITORIES", value=",".join(args.repositories)),
            core.EnvVarArgs(name="QUIET_SECONDS", value=str(args.quiet_seconds)),
        ],
        ports=[core.ContainerPortArgs(name="http", container_port=pods.HTTP_PORT)],
        # The kernel's log is a device, which only a privileged container may open.
        security_context=core.SecurityContextArgs(privileged=True, run_as_user=0, read_only_root_filesystem=True),
        resources=pods.resources(cores="10m", most_cores="500m", memory="96Mi"),
        volume_mounts=[
            core.VolumeMountArgs(name="kmsg", mount_path=KERNEL_LOG, read_only=True),
            *(
                [
                    core.VolumeMountArgs(
                        name="cvmfs", mount_path=REPOSITORIES, read_only=True, mount_propagation="HostToContainer"
                    )
                ]
                if args.cvmfs_path
                else []
            ),
        ],
        startup_probe=pods.http_probe("/healthz", period=2, failures=60),
        liveness_probe=pods.http_probe("/healthz", period=30, failures=3),
    )


def _own_node_only(name: str, args: NodesArgs, own: pulumi.ResourceOptions) -> None:
    """A monitor's token can be taken by who breaks into its node; so it is good for nothing but that node."""
    metadata = meta.ObjectMetaArgs(name=naming.node_monitor(args.site), labels=labels(args.site, MONITOR))
    account = f"system:serviceaccount:{naming.system_namespace(args.site)}:{MONITOR}"
    policy = admission.ValidatingAdmissionPolicy(
        f"{name}-own-node",
        metadata=metadata,
        spec=admission.ValidatingAdmissionPolicySpecArgs(
            failure_policy="Fail",
            # With what the API server would fill in: it takes the whole for one field, so that a stack whose state was
            # lost would be told of a conflict with itself.
            match_constraints=admission.MatchResourcesArgs(
                match_policy="Equivalent",
                namespace_selector=meta.LabelSelectorArgs(),
                object_selector=meta.LabelSelectorArgs(),
                resource_rules=[
                    admission.NamedRuleWithOperationsArgs(
                        api_groups=[""],
                        api_versions=["v1"],
                        operations=["UPDATE"],
                        resources=["nodes", "nodes/status"],
                        scope="*",
                    )
                ],
            ),
            match_conditions=[
                admission.MatchConditionArgs(name="monitors", expression=f"request.userInfo.username == '{account}'")
            ],
            validations=[
                admission.ValidationArgs(
                    expression=(
                        f"has(request.userInfo.extra) && '{NODE_CLAIM}' in request.userInfo.extra && "
                        f"request.userInfo.extra['{NODE_CLAIM}'].exists(name, name == object.metadata.name)"
                    ),
                    message="a node monitor may change the status of its own node only",
                )
            ],
        ),
        opts=own,
    )
    admission.ValidatingAdmissionPolicyBinding(
        f"{name}-own-node-binding",
        metadata=metadata,
        spec=admission.ValidatingAdmissionPolicyBindingSpecArgs(
            policy_name=policy.metadata.name, validation_actions=["Deny"]
        ),
        opts=own,
    )
