"""The vacuum controller: what it is told (the kind StartdSet), what it may do, and the controller itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi_kubernetes.apiextensions import v1 as apiextensions
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.rbac import v1 as rbac

from components import naming, pods
from components.labels import labels, selector

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
        ready: what a StartdSet must wait for when it is made, and outlive it when it goes.
    """

    metrics: str
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: VacuumArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Vacuum", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        definition = _definition(name, own)
        account = core.ServiceAccount(f"{name}-account", metadata=_metadata(args), opts=own)
        role = rbac.Role(f"{name}-role", metadata=_metadata(args), rules=rules(), opts=own)
        binding = rbac.RoleBinding(
            f"{name}-binding",
            metadata=_metadata(args),
            role_ref=rbac.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=NAME),
            subjects=[rbac.SubjectArgs(kind="ServiceAccount", name=NAME, namespace=args.namespace)],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[role, account]),
        )
        controller = _controller(
            name, args, pulumi.ResourceOptions(parent=self, depends_on=[definition, binding, account])
        )
        core.Service(
            f"{name}-metrics",
            metadata=_metadata(args),
            spec=core.ServiceSpecArgs(
                selector=selector(args.site, NAME),
                ports=[core.ServicePortArgs(name="http", port=pods.HTTP_PORT)],
            ),
            opts=own,
        )
        self.ready = [definition, binding, controller]
        self.metrics = f"http://{naming.service_host(NAME, naming.namespace(args.site))}:{pods.HTTP_PORT}/metrics"
        self.register_outputs({"metrics": self.metrics})


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition, as a Kubernetes object."""
    content: dict[str, Any] = yaml.safe_load(DEFINITION.read_text())
    return content


def rules() -> list[rbac.PolicyRuleArgs]:
    """All that the controller may do, in its own namespace."""
    return [
        rbac.PolicyRuleArgs(
            api_groups=[""], resources=["pods"], verbs=["get", "list", "watch", "create", "patch", "delete"]
        ),
        rbac.PolicyRuleArgs(api_groups=[""], resources=["events"], verbs=["create"]),
        rbac.PolicyRuleArgs(
            api_groups=[GROUP], resources=["startdsets"], verbs=["get", "list", "watch", "patch", "update"]
        ),
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


def _controller(name: str, args: VacuumArgs, opts: pulumi.ResourceOptions) -> apps.Deployment:
    return apps.Deployment(
        f"{name}-controller",
        metadata=_metadata(args),
        spec=apps.DeploymentSpecArgs(
            replicas=1,
            selector=meta.LabelSelectorArgs(match_labels=selector(args.site, NAME)),
            # Two at once would each obey the limits, not both together.
            strategy=apps.DeploymentStrategyArgs(type="Recreate"),
            template=core.PodTemplateSpecArgs(
                metadata=meta.ObjectMetaArgs(labels=labels(args.site, NAME)),
                spec=core.PodSpecArgs(
                    service_account_name=NAME,
                    enable_service_links=False,
                    priority_class_name=args.priority,
                    security_context=pods.running_as(pods.SERVICE_UID),
                    termination_grace_period_seconds=30,
                    containers=[
                        core.ContainerArgs(
                            name=NAME,
                            image=args.image,
                            args=["python3", "-m", "services.vacuum"],
                            env=[pods.from_field("NAMESPACE", "metadata.namespace")],
                            ports=[core.ContainerPortArgs(name="http", container_port=pods.HTTP_PORT)],
                            security_context=pods.unprivileged(),
                            resources=pods.resources(cores="50m", most_cores="1", memory="256Mi"),
                            startup_probe=pods.http_probe("/healthz", period=1, failures=60),
                            readiness_probe=pods.http_probe("/readyz", period=5, failures=3),
                            liveness_probe=pods.http_probe("/healthz", period=20, failures=3),
                        )
                    ],
                ),
            ),
        ),
        opts=opts,
    )


def _metadata(args: VacuumArgs) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(name=NAME, namespace=args.namespace, labels=labels(args.site, NAME))
