"""The site's workers: the pod that each startd runs in, and the StartdSet that says how many there may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.meta import v1 as meta

from components import pods
from components.cluster.pools import LABEL, NodePool
from components.labels import labels
from components.vacuum import GROUP

NAME = "startds"
PROGRAMS = "/opt/atlas-sites/bin"
# From the end of the payload to the end of the pod: HTCondor's own goodbye to the pool.
LEAVING_SECONDS = 120
# After a startd's patience is over it still has to leave, which takes seconds.
FIZZLE_MARGIN_SECONDS = 30
# What the vacuum controller needs to see the last one gone, before the engine gives up.
DELETION_MARGIN_SECONDS = 300
LOGS_MIB = 256


@dataclass(frozen=True, kw_only=True)
class StartdSize:
    """One startd.

    Attributes:
        cores: that it offers to payloads.
        requested_cores: that the scheduler reserves for it.
        memory_mib: requested and limit.
        disk_mib: for the payloads' sandboxes.
    """

    cores: int
    requested_cores: float
    memory_mib: int
    disk_mib: int


@dataclass(frozen=True, kw_only=True)
class StartdTimes:
    """A startd's patience, in seconds.

    Attributes:
        start: from being placed on a node to running.
        no_claim: without a payload.
        drain: for payloads to end once it is asked to stop.
        lifetime: after which it takes no more payloads.
        keepalive: between signs of life on idle connections.
    """

    start: int
    no_claim: int
    drain: int
    lifetime: int
    keepalive: int


@dataclass(frozen=True, kw_only=True)
class StartdLimits:
    """All startds together; the cost is in the currency of the node pools' prices.

    Attributes:
        weight, floor: of what is shared with other StartdSets of the namespace.
    """

    pods: int
    cores: int
    memory_mib: int
    cost_per_hour: float | None = None
    weight: int = 1
    floor: int = 0


@dataclass(frozen=True, kw_only=True)
class VacuumPace:
    """How the controller learns and changes.

    Attributes:
        window_initial, window_maximum: startds that may be unproven; without a maximum, a quarter of the limit.
        backoff_base, backoff_cap: seconds.
        update: OnFinish or Drain, for startds of an old template.
    """

    window_initial: int
    window_maximum: int | None
    backoff_base: int
    backoff_cap: int
    update: str


@dataclass(frozen=True, kw_only=True)
class StartdsArgs:
    """What startds are made of.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        image: of the startd.
        atlas_site: the name by which the experiment knows the site.
        collector: host and port of the pool's collector.
        trust_domain: the pool's.
        credentials: the Secret with proxy and token.
        cvmfs_claim: to mount the repositories by.
        repositories: that must be there before a startd begins.
        proxy: the address of the squids, for payloads.
        pools: nodes that they may go to, besides those that keep nobody off.
        seccomp_profile: on each node, with which payloads can start containers; none: they need not.
        stage_out: sources of the volume that tells payloads where to put what they made; none: nowhere.
        account: that startds run as; none: that which each pod has.
    """

    site: str
    namespace: pulumi.Input[str]
    image: str
    atlas_site: str
    collector: str
    trust_domain: str
    credentials: pulumi.Input[str]
    cvmfs_claim: pulumi.Input[str]
    repositories: Sequence[str]
    proxy: str
    pools: Sequence[NodePool] = ()
    seccomp_profile: str | None = None
    stage_out: Sequence[Mapping[str, Any]] = ()
    account: pulumi.Input[str] | None = None
    size: StartdSize
    times: StartdTimes
    limits: StartdLimits
    pace: VacuumPace


class Startds(pulumi.ComponentResource):
    """Workers, as many as the vacuum controller finds work for.

    Attributes:
        name: of the StartdSet.
        limits: how many startds, cores and MiB of memory there may be.
    """

    name: str
    limits: StartdLimits

    def __init__(
        self,
        name: str,
        args: StartdsArgs,
        opts: pulumi.ResourceOptions | None = None,
        *,
        needs: Sequence[pulumi.Resource] = (),
    ) -> None:
        """Declares the set.

        Args:
            name: of the component.
            args: what startds are made of.
            opts: of the component.
            needs: what must be there before the first startd, and stay until the last one is gone.
        """
        super().__init__("atlas-sites:index:Startds", name, None, opts)
        kubernetes.apiextensions.CustomResource(
            f"{name}-set",
            api_version=f"{GROUP}/v1alpha1",
            kind="StartdSet",
            metadata=meta.ObjectMetaArgs(name=NAME, namespace=args.namespace, labels=labels(args.site, "startd")),
            spec=specification(args),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=list(needs),
                # Deleting it means draining: the controller holds it until the last startd is gone.
                custom_timeouts=pulumi.CustomTimeouts(delete=f"{deletion_seconds(args.times)}s"),
            ),
        )
        self.name = NAME
        self.limits = args.limits
        self.register_outputs({"pods": args.limits.pods})


def deletion_seconds(times: StartdTimes) -> int:
    """How long the deletion of the set may take."""
    return times.drain + LEAVING_SECONDS + DELETION_MARGIN_SECONDS


def specification(args: StartdsArgs) -> dict[str, Any]:
    """The spec of the StartdSet; components/startdset_crd.yaml explains each key."""
    maximum = args.pace.window_maximum
    cost = args.limits.cost_per_hour
    return {
        "limits": {
            "pods": args.limits.pods,
            "cores": args.limits.cores,
            "memoryMib": args.limits.memory_mib,
            **({} if cost is None else {"costPerHour": cost}),
        },
        "share": {"weight": args.limits.weight, "floor": args.limits.floor},
        "window": {
            "initial": args.pace.window_initial,
            "growth": 4,
            **({} if maximum is None else {"maximum": maximum}),
        },
        "backoff": {"baseSeconds": args.pace.backoff_base, "capSeconds": args.pace.backoff_cap},
        "fizzleSeconds": args.times.no_claim + FIZZLE_MARGIN_SECONDS,
        "startSeconds": args.times.start,
        "drain": {"seconds": args.times.drain + LEAVING_SECONDS},
        "lifetimeSeconds": args.times.lifetime,
        "update": args.pace.update,
        "template": template(args),
    }


def template(args: StartdsArgs) -> dict[str, Any]:
    """The pod of one startd, as a Kubernetes object."""
    return {
        "metadata": {
            "labels": labels(args.site, "startd"),
            # An autoscaler that wants a node for itself must not end payloads for it.
            "annotations": {
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            **({} if args.account is None else {"serviceAccountName": args.account}),
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": args.times.drain + LEAVING_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": pods.SERVICE_UID,
                "runAsGroup": pods.SERVICE_UID,
                "fsGroup": pods.SERVICE_UID,
                "seccompProfile": {"type": "RuntimeDefault"},
                "sysctls": sysctls(args.times.keepalive),
            },
            **_placement(args.pools),
            "initContainers": [_software(args)],
            "containers": [_startd(args)],
            "volumes": [
                {"name": "scratch", "emptyDir": {"sizeLimit": f"{args.size.disk_mib}Mi"}},
                {"name": "cvmfs", "persistentVolumeClaim": {"claimName": args.cvmfs_claim, "readOnly": True}},
                {"name": "credentials", "secret": {"secretName": args.credentials, "defaultMode": 0o440}},
                {"name": "pod", "downwardAPI": {"items": [_file("requested", _annotation("requested"))]}},
                *([{"name": "stage-out", "projected": _projected(args.stage_out)}] if args.stage_out else []),
            ],
        },
    }


def _projected(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Several things in one directory, for the pod's user and no other."""
    return {"defaultMode": 0o440, "sources": [dict(source) for source in sources]}


def sysctls(keepalive: int) -> list[dict[str, str]]:
    """What keeps idle connections known to whatever is in their way.

    Payloads' sockets take both; HTCondor sets the first one on its own sockets, and not the second. A socket whose sign
    of life was answered gives the next one no sooner than the kernel's interval, 75 s, however short the time is.

    Args:
        keepalive: seconds.
    """
    values = {"time": keepalive, "intvl": max(1, keepalive // 6)}
    return [{"name": f"net.ipv4.tcp_keepalive_{name}", "value": str(value)} for name, value in values.items()]


def _placement(pools: Sequence[NodePool]) -> dict[str, Any]:
    """Which nodes a startd may go to: those of our job pools where there are such, and not of one that is retiring."""
    taints = {taint: None for pool in pools for taint in pool.taints}
    tolerations = [
        {"key": taint.key, "operator": "Equal", "value": taint.value, "effect": taint.effect} for taint in taints
    ]
    own = [pool for pool in pools if LABEL in pool.selector]
    retiring = sorted(pool.selector[LABEL] for pool in own if pool.retiring)
    required: list[dict[str, Any]] = [{"key": LABEL, "operator": "Exists"}] if own else []
    if retiring:
        required.append({"key": LABEL, "operator": "NotIn", "values": retiring})
    terms = {"nodeSelectorTerms": [{"matchExpressions": required}]}
    return {
        **({"tolerations": tolerations} if tolerations else {}),
        **(
            {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}
            if required
            else {}
        ),
    }


def _software(args: StartdsArgs) -> dict[str, Any]:
    """Waits for the repositories, so that no payload is taken on a node that cannot run it."""
    return {
        **_container(args, "software", "wait-for-software"),
        "env": [
            {"name": "REPOSITORIES", "value": ",".join(args.repositories)},
            # Sooner than the controller's patience ends, so that the pod can say itself what is missing.
            {"name": "SOFTWARE_SECONDS", "value": str(args.times.start * 2 // 3)},
        ],
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "64Mi", "ephemeral-storage": f"{LOGS_MIB}Mi"},
        },
        "volumeMounts": [_mount_of_software()],
    }


def _startd(args: StartdsArgs) -> dict[str, Any]:
    size = args.size
    told = {
        "COLLECTOR": args.collector,
        "TRUST_DOMAIN": args.trust_domain,
        "ATLAS_SITE": args.atlas_site,
        "SITE": args.site,
        "NOCLAIM_SECONDS": str(args.times.no_claim),
        "DRAIN_SECONDS": str(args.times.drain),
        "KEEPALIVE_SECONDS": str(args.times.keepalive),
        "PAYLOAD_CONTAINERS": "none" if args.seccomp_profile is None else "userNamespaces",
        "DISK_MIB": str(size.disk_mib),
        "REPOSITORIES": ",".join(args.repositories),
        "http_proxy": args.proxy,
    }
    container = _container(args, "startd", "reporter")
    if args.seccomp_profile is not None:
        # Of this container alone: the one that waits for the software runs also where the profile is still to come.
        container["securityContext"]["seccompProfile"] = {
            "type": "Localhost",
            "localhostProfile": args.seccomp_profile,
        }
    return {
        **container,
        "env": [
            *({"name": name, "value": value} for name, value in told.items()),
            _from_pod("POD_NAME", "metadata.name"),
            _from_pod("NODE_NAME", "spec.nodeName"),
            _from_pod("LIFETIME_SECONDS", _annotation("lifetime")),
            _from_limits("CORES", "limits.cpu", "1"),
            _from_limits("MEMORY_MIB", "limits.memory", "1Mi"),
        ],
        "resources": {
            "requests": {
                "cpu": f"{round(size.requested_cores * 1000)}m",
                "memory": f"{size.memory_mib}Mi",
                "ephemeral-storage": f"{size.disk_mib + LOGS_MIB}Mi",
            },
            "limits": {
                "cpu": str(size.cores),
                "memory": f"{size.memory_mib}Mi",
                "ephemeral-storage": f"{size.disk_mib + LOGS_MIB}Mi",
            },
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108  the container's own
            # The whole directory: a single file of it would never be renewed in a running pod.
            {"name": "credentials", "mountPath": "/etc/atlas-sites/credentials", "readOnly": True},
            # A volume, unlike a variable, follows the annotation while the pod runs.
            {"name": "pod", "mountPath": "/etc/atlas-sites/pod", "readOnly": True},
            *(
                [{"name": "stage-out", "mountPath": "/etc/atlas-sites/stage-out", "readOnly": True}]
                if args.stage_out
                else []
            ),
            _mount_of_software(),
        ],
        # Started is what the pool knows, Ready what has had a payload: the vacuum controller's proof that there is
        # work. The reporter ends a startd that the pool does not come to know, long before this probe would.
        "startupProbe": _probe("known", period=3, failures=1200),
        "readinessProbe": _probe("ready", period=10, failures=3),
    }


def _container(args: StartdsArgs, name: str, program: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": args.image,
        "args": [f"{PROGRAMS}/{program}"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _mount_of_software() -> dict[str, Any]:
    return {"name": "cvmfs", "mountPath": "/cvmfs", "readOnly": True, "mountPropagation": "HostToContainer"}


def _probe(program: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "exec": {"command": [f"{PROGRAMS}/{program}"]},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _annotation(name: str) -> str:
    return f"metadata.annotations['{GROUP}/{name}']"


def _file(name: str, path: str) -> dict[str, Any]:
    return {"path": name, "fieldRef": {"fieldPath": path}}


def _from_pod(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _from_limits(name: str, resource: str, divisor: str) -> dict[str, Any]:
    return {
        "name": name,
        "valueFrom": {"resourceFieldRef": {"containerName": "startd", "resource": resource, "divisor": divisor}},
    }
