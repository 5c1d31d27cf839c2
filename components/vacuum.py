"""The vacuum controller: what it is told (the kind StartdSet), what it may do, and the controller itself."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apiextensions import v1 as apiextensions
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.rbac import v1 as rbac

from components import naming, service
from components.cluster.pools import NodePool
from components.labels import labels

DEFINITION = Path(__file__).with_name("startdset_crd.yaml")
GROUP = "vacuum.atlas-sites.io"
NAME = "vacuum"
# Where services/vacuum/survey.py looks for the node pools.
POOLS = "node-pools"
POOLS_DIRECTORY = "/etc/atlas-sites/node-pools"
BUDGET_DIRECTORY = "/etc/atlas-sites/budget"


@dataclass(frozen=True, kw_only=True)
class VacuumArgs:
    """Where the controller runs.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one; the controller sees no other.
        priority: the priority class of what startds depend on.
        image: of the services.
        pools: node pools that an autoscaler may fill; None if nobody knows of one.
        budget: the ConfigMap in which the accounting says what may be spent; None where money is no matter.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    pools: Sequence[NodePool] | None = None
    budget: str | None = None


class Vacuum(pulumi.ComponentResource):
    """A controller that keeps startds running while there is work.

    Attributes:
        metrics: where Prometheus may ask it.
    """

    metrics: str

    def __init__(self, name: str, args: VacuumArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Vacuum", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        described = service.ServiceArgs(
            site=args.site,
            namespace=args.namespace,
            priority=args.priority,
            image=args.image,
            name=NAME,
            # By its Lease only one acts; the other takes over within seconds, as does a new version.
            strategy=apps.DeploymentStrategyArgs(type="RollingUpdate"),
            replicas=2,
            files={POOLS_DIRECTORY: POOLS} | ({} if args.budget is None else {BUDGET_DIRECTORY: args.budget}),
            cores="50m",
            # At 10,000 startds 60 MiB, and 94 while it reads them all after a restart: benchmarks/vacuum_scale.
            memory="256Mi",
        )
        definition = _definition(name, own)
        account = service.account(f"{name}-account", described, own)
        binding = service.allowed(name, described, rules(), account, own)
        reading = _node_reading(name, args, own, account)
        if args.pools is not None:
            core.ConfigMap(
                f"{name}-pools",
                metadata=meta.ObjectMetaArgs(name=POOLS, namespace=args.namespace, labels=labels(args.site, NAME)),
                data={"pools.json": json.dumps([pool.facts() for pool in args.pools])},
                opts=own,
            )
        service.deployment(f"{name}-controller", described, self, [definition, binding, reading, account])
        service.metrics(f"{name}-metrics", described, own)
        self.metrics = service.metrics_address(args.site, NAME)
        self.register_outputs({"metrics": self.metrics})


@cache  # of some hundreds of lines, and the same for each site
def definition() -> dict[str, Any]:
    """The CustomResourceDefinition, as a Kubernetes object."""
    content: dict[str, Any] = yaml.safe_load(DEFINITION.read_text())
    return content


def rules() -> list[rbac.PolicyRuleArgs]:
    """All that the controller may do, in its own namespace."""
    return [
        rbac.PolicyRuleArgs(api_groups=[""], resources=["pods"], verbs=["list", "watch", "create", "patch", "delete"]),
        rbac.PolicyRuleArgs(api_groups=[""], resources=["events"], verbs=["create"]),
        rbac.PolicyRuleArgs(api_groups=[GROUP], resources=["startdsets"], verbs=["list", "watch", "patch"]),
        rbac.PolicyRuleArgs(api_groups=[""], resources=["resourcequotas", "limitranges"], verbs=["list", "watch"]),
        # Who leads. Names cannot be given for what is yet to be made.
        rbac.PolicyRuleArgs(api_groups=["coordination.k8s.io"], resources=["leases"], verbs=["create"]),
        rbac.PolicyRuleArgs(
            api_groups=["coordination.k8s.io"], resources=["leases"], resource_names=[NAME], verbs=["get", "update"]
        ),
        # The second is asked for where an owner may only be named by who could delete it (OpenShift).
        rbac.PolicyRuleArgs(
            api_groups=[GROUP], resources=["startdsets/status", "startdsets/finalizers"], verbs=["update"]
        ),
    ]


def _node_reading(
    name: str, args: VacuumArgs, own: pulumi.ResourceOptions, account: pulumi.Resource
) -> rbac.ClusterRoleBinding:
    """Nodes belong to no namespace. Without this the controller works, and says that it does not know their room."""
    metadata = meta.ObjectMetaArgs(name=naming.node_reader(args.site), labels=labels(args.site, NAME))
    role = rbac.ClusterRole(
        f"{name}-nodes",
        metadata=metadata,
        rules=[rbac.PolicyRuleArgs(api_groups=[""], resources=["nodes"], verbs=["list", "watch"])],
        opts=own,
    )
    return service.bound_everywhere(
        f"{name}-nodes-binding",
        metadata,
        naming.node_reader(args.site),
        (NAME, args.namespace),
        [role, account],
        own,
    )


def _definition(name: str, own: pulumi.ResourceOptions) -> apiextensions.CustomResourceDefinition:
    content = definition()
    return apiextensions.CustomResourceDefinition(
        f"{name}-definition", metadata=content["metadata"], spec=content["spec"], opts=own
    )
