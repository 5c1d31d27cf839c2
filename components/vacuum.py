"""The vacuum controller: what it is told (the kind StartdSet), what it may do, and the controller itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apiextensions import v1 as apiextensions
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.rbac import v1 as rbac

from components import service

DEFINITION = Path(__file__).with_name("startdset_crd.yaml")
GROUP = "vacuum.atlas-sites.io"
NAME = "vacuum"


@dataclass(frozen=True, kw_only=True)
class VacuumArgs:
    """Where the controller runs.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one; the controller sees no other.
        priority: the priority class of what startds depend on.
        image: of the services.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str


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
            # Two at once would each obey the limits, not both together.
            strategy=apps.DeploymentStrategyArgs(type="Recreate"),
            cores="50m",
            memory="256Mi",
        )
        definition = _definition(name, own)
        account = service.account(f"{name}-account", described, own)
        role = rbac.Role(f"{name}-role", metadata=service.metadata(described), rules=rules(), opts=own)
        binding = rbac.RoleBinding(
            f"{name}-binding",
            metadata=service.metadata(described),
            role_ref=rbac.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=NAME),
            subjects=[rbac.SubjectArgs(kind="ServiceAccount", name=NAME, namespace=args.namespace)],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[role, account]),
        )
        service.deployment(f"{name}-controller", described, self, [definition, binding, account])
        service.metrics(f"{name}-metrics", described, own)
        self.metrics = service.metrics_address(args.site, NAME)
        self.register_outputs({"metrics": self.metrics})


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
        # The second is asked for where an owner may only be named by who could delete it (OpenShift).
        rbac.PolicyRuleArgs(
            api_groups=[GROUP], resources=["startdsets/status", "startdsets/finalizers"], verbs=["update"]
        ),
    ]


def _definition(name: str, own: pulumi.ResourceOptions) -> apiextensions.CustomResourceDefinition:
    content = definition()
    return apiextensions.CustomResourceDefinition(
        f"{name}-definition", metadata=content["metadata"], spec=content["spec"], opts=own
    )
