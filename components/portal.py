"""The hub of a stack: one page on which all its sites are seen, as each of them told last.

Nothing of it can be reached from outside but the door for pushes, where the stack says that somebody brings them in.
The pages listen on the pod's loopback: the one way to them is `kubectl port-forward`, for those whom the cluster knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from components import naming, peers, pods, service
from components.labels import labels

NAME = "portal"
PUSHER = "pusher"
STORE = "portal"
STORE_DIRECTORY = "/var/lib/atlas-sites"
TOKENS_DIRECTORY = "/etc/atlas-sites/sites"
DIGEST = "digest"
PUSH_PORT = 8081
PAGES_PORT = 8090


@dataclass(frozen=True, kw_only=True)
class PortalArgs:
    """What the hub is to know.

    Attributes:
        site: on which it is.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: of the services.
        sites: names of all of the stack.
        outside: whether other clusters push, by whatever brings them to the Service.
        store_mib: of the claim; None for a store that goes with its pod.
        storage_class: of the claim; None for the cluster's own choice.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    sites: Sequence[str]
    outside: bool = False
    store_mib: int | None = None
    storage_class: str | None = None


class Portal(pulumi.ComponentResource):
    """The hub.

    Attributes:
        metrics: where Prometheus may ask.
        command: by which a person reaches the pages, in an environment that reaches the cluster.
    """

    metrics: str
    command: str

    def __init__(self, name: str, args: PortalArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Portal", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        store = pods.store("store", "512Mi", None if args.store_mib is None else STORE)
        described = service.ServiceArgs(
            site=args.site,
            namespace=args.namespace,
            priority=args.priority,
            image=args.image,
            name=NAME,
            # The claim is one node's at a time.
            strategy=apps.DeploymentStrategyArgs(type="Recreate"),
            environment={
                "SITES": ",".join(args.sites),
                "STORE": f"{STORE_DIRECTORY}/portal.db",
                "TOKENS": TOKENS_DIRECTORY,
                "PUSH_PORT": str(PUSH_PORT),
                "PAGES_PORT": str(PAGES_PORT),
            },
            volumes={STORE_DIRECTORY: store, TOKENS_DIRECTORY: _admissions(args)},
            ports={"push": PUSH_PORT, "pages": PAGES_PORT},
            api=False,
            cores="20m",
            # 50 sites with 10,000 startds are held in 70 MiB: benchmarks/portal.py.
            memory="384Mi",
        )
        networking.NetworkPolicy(
            f"{name}-policy", metadata=service.metadata(described), spec=network_policy(args), opts=own
        )
        first: list[pulumi.Resource] = [service.account(f"{name}-account", described, own)]
        if args.store_mib is not None:
            first.append(_claim(name, args, args.store_mib, own))
        service.deployment(f"{name}-service", described, self, first)
        service.metrics(f"{name}-address", described, own)
        self.metrics = service.metrics_address(args.site, NAME)
        self.command = f"kubectl --namespace {naming.namespace(args.site)} port-forward service/{NAME} {PAGES_PORT}"
        self.register_outputs({"metrics": self.metrics, "command": self.command})


def address(site: str) -> str:
    """Where the hub's own site pushes to."""
    return f"http://{naming.service_host(NAME, naming.namespace(site))}:{PUSH_PORT}"


def admission(site: str) -> str:
    """The Secret on the hub's cluster with the digest of a site's token."""
    return f"{NAME}-site-{site}"


def network_policy(args: PortalArgs) -> networking.NetworkPolicySpecArgs:
    """Only pushers push: the site's own, and what comes from other namespaces where other clusters are let in."""
    askers = [peers.component(PUSHER)]
    if args.outside:
        others = meta.LabelSelectorRequirementArgs(
            key=peers.NAMESPACE_NAME, operator="NotIn", values=[naming.namespace(args.site)]
        )
        askers.append(
            networking.NetworkPolicyPeerArgs(namespace_selector=meta.LabelSelectorArgs(match_expressions=[others]))
        )
    return networking.NetworkPolicySpecArgs(
        pod_selector=peers.pods(NAME),
        policy_types=["Ingress", "Egress"],
        ingress=[networking.NetworkPolicyIngressRuleArgs(from_=askers, ports=[peers.tcp(PUSH_PORT)])],
        # It calls nobody.
        egress=[],
    )


def _admissions(args: PortalArgs) -> core.VolumeArgs:
    """A file for each site; that of one that is still to be made is not waited for."""
    return core.VolumeArgs(
        name="sites",
        projected=core.ProjectedVolumeSourceArgs(
            sources=[
                core.VolumeProjectionArgs(
                    secret=core.SecretProjectionArgs(
                        name=admission(site), optional=True, items=[core.KeyToPathArgs(key=DIGEST, path=site)]
                    )
                )
                for site in args.sites
            ]
        ),
    )


def _claim(name: str, args: PortalArgs, mib: int, own: pulumi.ResourceOptions) -> core.PersistentVolumeClaim:
    metadata = meta.ObjectMetaArgs(
        name=STORE,
        namespace=args.namespace,
        labels=labels(args.site, NAME),
        annotations=pods.WAITS_FOR_ITS_POD,
    )
    return pods.claim(f"{name}-store", metadata, mib, args.storage_class, own)
