"""The site's web caches: squids that keep the traffic to the experiment's servers at one fetch for each object.

Each squid is a Deployment of one replica, made anew even when its node dies, with a Service of its own: a CVMFS client
shards objects over the addresses and fails over between them by itself. One more Service, the VIP, spreads over all; a
client pins its kept-alive connection to one squid behind it, so it comes last in the list and serves payloads.

A configuration has a name made of its content, and a new squid has squid itself check it before it starts. The old one
goes when the new one answers, so what squid refuses is never served by anyone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.policy import v1 as policy

from components import naming, pods
from components.after import after
from components.labels import labels, selector
from components.namespaces import METRICS_PORT, ORIGIN_PORTS, SQUID_PORT

UID = 13  # the user proxy: squid dies if it drops to another user while its log is a pipe
CONFIGURATION = "/etc/atlas-sites/squid.conf"
CACHE = "/var/spool/squid"
STATE = "/run/squid"
MEMBER = "atlas-sites.io/squid"
# How long endpoints take to forget a pod; until then it must go on accepting connections.
PROPAGATION_SECONDS = 10
SHUTDOWN_SECONDS = 10
DISK_MARGIN = 1.2  # swap.state, and what is being written, come on top of the cache's nominal size
LONGEST_PREPARATION_SECONDS = 120  # to make the cache's directories on a slow disk
# After so long without a squid that answers, an update has failed and says so.
ROLLOUT_SECONDS = 300
# A node that is silent for so long has lost its squid: Kubernetes waits five minutes by default.
LOST_NODE_SECONDS = 30
ENDING_SECONDS = 5  # for a squid that hangs: it would not use more
EXPORTER_MIB = 64
POD_CORES = 2  # at most: one for squid, which knows no threads, and one for its exporter


@dataclass(frozen=True, kw_only=True)
class SquidsArgs:
    """How many caches, how large, for whom and to where.

    Attributes:
        site: the site's name.
        namespace: the unprivileged one.
        priority: the priority class of what startds depend on.
        image: any squid 6 with bash and tini.
        replicas: how many.
        destinations: host names that may be asked for; a leading dot stands for all hosts of a domain.
        clients: networks in CIDR form that hold the site's pods.
        cache_mib: of disk, for each.
        memory_mib: of memory, for each; half of it holds objects.
    """

    site: str
    namespace: pulumi.Input[str]
    priority: pulumi.Input[str]
    image: str
    replicas: int
    destinations: Sequence[str]
    clients: Sequence[str]
    cache_mib: int
    memory_mib: int


class Squids(pulumi.ComponentResource):
    """The site's web caches.

    Attributes:
        proxies: for CVMFS_HTTP_PROXY, the squids as one load-balance group, then the VIP.
        vip: the address over all squids, for clients that know only one.
        endpoints: the address of each squid.
        metrics: where Prometheus may ask each squid's exporter, by the squid's name.
    """

    proxies: str
    vip: str
    endpoints: list[str]
    metrics: dict[str, str]

    def __init__(self, name: str, args: SquidsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Squids", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        text = configuration(args)
        # Immutable under its name, so an update that fails leaves the old pods what they are made anew with.
        conf = f"squid-{naming.checksum(text)}"
        mounted = core.ConfigMap(
            f"{name}-conf", metadata=_metadata(conf, args), data={"squid.conf": text}, immutable=True, opts=own
        )
        account = core.ServiceAccount(
            f"{name}-account", metadata=_metadata("squid", args), automount_service_account_token=False, opts=own
        )
        each = {"proxy": SQUID_PORT, "metrics": METRICS_PORT}
        for index in range(args.replicas):
            _deployment(f"{name}-{index}", index, account, after(mounted, conf), args, own)
            _service(f"{name}-{index}", naming.squid(index), _member(args.site, index), each, args, own)
        _service(f"{name}-vip", "squid", selector(args.site, "squid"), {"proxy": SQUID_PORT}, args, own)
        policy.PodDisruptionBudget(
            f"{name}-budget",
            metadata=_metadata("squid", args),
            spec=policy.PodDisruptionBudgetSpecArgs(
                max_unavailable=1,
                selector=meta.LabelSelectorArgs(match_labels=selector(args.site, "squid")),
            ),
            opts=own,
        )
        self.endpoints = [_address(naming.squid(index), args.site) for index in range(args.replicas)]
        self.vip = _address("squid", args.site)
        self.metrics = {naming.squid(index): metrics_address(args.site, index) for index in range(args.replicas)}
        self.proxies = f"{'|'.join(self.endpoints)};{self.vip}"
        self.register_outputs({"proxies": self.proxies, "vip": self.vip, "endpoints": self.endpoints})


def metrics_address(site: str, index: int) -> str:
    """Where Prometheus may ask the exporter of one squid, from within the cluster."""
    return f"http://{naming.service_host(naming.squid(index), naming.namespace(site))}:{METRICS_PORT}/metrics"


def configuration(args: SquidsArgs) -> str:
    """The text of squid.conf."""
    return f"""\
http_port {SQUID_PORT}
visible_hostname {args.site}-squid
pid_filename {STATE}/squid.pid
coredump_dir {STATE}

# Only the site's pods may ask, only for the experiment's servers, only to read. The names are compared as text (-n): an
# address that asks to be taken for its reverse name would otherwise borrow it.
acl clients src {" ".join(args.clients)}
acl destinations dstdomain -n {" ".join(args.destinations)}
acl origin_ports port {" ".join(str(port) for port in ORIGIN_PORTS)}
acl reading method GET HEAD
acl web proto HTTP
http_access allow manager localhost
http_access deny manager
http_access deny !clients
http_access deny !reading
http_access deny !origin_ports
http_access deny !web
# Whatever a declared name resolves to: not squid's own loopback, not the cloud's metadata server.
http_access deny to_localhost
http_access deny to_linklocal
http_access allow destinations
http_access deny all
# An object's name is all a cache needs; nothing a client says about itself goes further.
forwarded_for delete
email_err_data off
uri_whitespace deny

# One fetch for each object, however many ask at once; a missing object is asked for once a minute.
collapsed_forwarding on
negative_ttl 1 minute
minimum_expiry_time 0 seconds
cache_miss_revalidate off
max_filedescriptors 16384

cache_mem {args.memory_mib // 2} MB
memory_cache_shared off
maximum_object_size_in_memory 128 KB
maximum_object_size 1 GB
cache_dir aufs {CACHE} {args.cache_mib} 16 256

access_log stdio:/dev/stdout
cache_log stdio:/dev/stderr
cache_store_log none
logfile_rotate 0
shutdown_lifetime {SHUTDOWN_SECONDS} seconds
"""


def _deployment(
    resource: str,
    index: int,
    account: core.ServiceAccount,
    conf: pulumi.Input[str],
    args: SquidsArgs,
    own: pulumi.ResourceOptions,
) -> None:
    apps.Deployment(
        resource,
        metadata=_metadata(naming.squid(index), args),
        spec=apps.DeploymentSpecArgs(
            replicas=1,
            selector=meta.LabelSelectorArgs(match_labels=_member(args.site, index)),
            # The old squid answers until the new one does, so that no client fails over and no bad one takes its place.
            strategy=apps.DeploymentStrategyArgs(
                type="RollingUpdate",
                rolling_update=apps.RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
            ),
            progress_deadline_seconds=ROLLOUT_SECONDS,
            template=core.PodTemplateSpecArgs(
                metadata=meta.ObjectMetaArgs(labels={**labels(args.site, "squid"), MEMBER: str(index)}),
                spec=core.PodSpecArgs(
                    service_account_name=after(account, "squid"),
                    automount_service_account_token=False,
                    enable_service_links=False,
                    priority_class_name=args.priority,
                    security_context=pods.running_as(UID),
                    termination_grace_period_seconds=PROPAGATION_SECONDS + SHUTDOWN_SECONDS + 10,
                    affinity=_apart(args.site),
                    tolerations=_tolerations(),
                    init_containers=[_check(args)],
                    containers=[_squid(args), _exporter(args)],
                    volumes=[
                        core.VolumeArgs(name="conf", config_map=core.ConfigMapVolumeSourceArgs(name=conf)),
                        pods.scratch("cache", f"{int(args.cache_mib * DISK_MARGIN)}Mi"),
                        pods.scratch("state", "16Mi"),
                    ],
                ),
            ),
        ),
        opts=own,
    )


def _check(args: SquidsArgs) -> core.ContainerArgs:
    """Squid's own judgement of the configuration: where it finds a mistake, the pod ends here and says which."""
    return core.ContainerArgs(
        name="check",
        image=args.image,
        command=["/usr/sbin/squid", "-k", "parse", "-f", CONFIGURATION],
        termination_message_policy="FallbackToLogsOnError",
        security_context=pods.unprivileged(),
        resources=pods.resources(cores="50m", most_cores="1", memory="64Mi"),
        volume_mounts=[
            core.VolumeMountArgs(name="conf", mount_path="/etc/atlas-sites", read_only=True),
            core.VolumeMountArgs(name="state", mount_path=STATE),
        ],
    )


def _exporter(args: SquidsArgs) -> core.ContainerArgs:
    """Debian's prometheus-squid-exporter: squid's own counters as metrics, asked for on localhost."""
    return core.ContainerArgs(
        name="exporter",
        image=args.image,
        command=["/usr/bin/prometheus-squid-exporter"],
        args=[f"-listen=:{METRICS_PORT}", f"-squid-port={SQUID_PORT}"],
        ports=[core.ContainerPortArgs(name="metrics", container_port=METRICS_PORT)],
        security_context=pods.unprivileged(),
        resources=pods.resources(cores="10m", most_cores="1", memory=f"{EXPORTER_MIB}Mi"),
    )


def _squid(args: SquidsArgs) -> core.ContainerArgs:
    return core.ContainerArgs(
        name="squid",
        image=args.image,
        command=["/usr/bin/tini", "--", "/bin/bash", "-ec"],
        args=[f"squid -N -z -f {CONFIGURATION}; rm -f {STATE}/squid.pid; exec squid -N -f {CONFIGURATION}"],
        ports=[core.ContainerPortArgs(name="proxy", container_port=SQUID_PORT)],
        security_context=pods.unprivileged(),
        resources=pods.resources(cores="50m", most_cores="1", memory=f"{args.memory_mib}Mi"),
        volume_mounts=[
            core.VolumeMountArgs(name="conf", mount_path="/etc/atlas-sites", read_only=True),
            core.VolumeMountArgs(name="cache", mount_path=CACHE),
            core.VolumeMountArgs(name="state", mount_path=STATE),
        ],
        startup_probe=_manager("counters", period=2, failures=LONGEST_PREPARATION_SECONDS // 2),
        readiness_probe=_manager("counters", period=5, failures=2),
        liveness_probe=_manager("info", period=20, failures=3, ending=ENDING_SECONDS),
        lifecycle=core.LifecycleArgs(
            pre_stop=core.LifecycleHandlerArgs(sleep=core.SleepActionArgs(seconds=PROPAGATION_SECONDS))
        ),
    )


def _manager(page: str, *, period: int, failures: int, ending: int | None = None) -> core.ProbeArgs:
    """Asks squid itself, on localhost: a hung squid still accepts connections, so a TCP probe proves nothing.

    No server outside is asked: an outage there would empty the Service at the worst moment.
    """
    ask = f"GET /squid-internal-mgr/{page} HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n"
    script = (
        f"exec 3<>/dev/tcp/127.0.0.1/{SQUID_PORT}; printf '{ask}' >&3; read -r answer <&3; [[ $answer == *' 200 '* ]]"
    )
    return core.ProbeArgs(
        exec_=core.ExecActionArgs(command=["/bin/bash", "-c", script]),
        period_seconds=period,
        timeout_seconds=5,
        failure_threshold=failures,
        termination_grace_period_seconds=ending,
    )


def _apart(site: str) -> core.AffinityArgs:
    """Each squid in a zone and on a node of its own, as far as there are any.

    Not by topology spread constraints: the scheduler looks at none of them for a node that lacks a label of one, as
    nodes of clusters that know no zones do.
    """
    return core.AffinityArgs(
        pod_anti_affinity=core.PodAntiAffinityArgs(
            preferred_during_scheduling_ignored_during_execution=[
                core.WeightedPodAffinityTermArgs(
                    weight=50,
                    pod_affinity_term=core.PodAffinityTermArgs(
                        topology_key=key,
                        label_selector=meta.LabelSelectorArgs(match_labels=selector(site, "squid")),
                    ),
                )
                for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
            ]
        )
    )


def _tolerations() -> list[core.TolerationArgs]:
    return [
        core.TolerationArgs(
            key=f"node.kubernetes.io/{trouble}",
            operator="Exists",
            effect="NoExecute",
            toleration_seconds=LOST_NODE_SECONDS,
        )
        for trouble in ("not-ready", "unreachable")
    ]


def _service(
    resource: str,
    service: str,
    picks: dict[str, str],
    ports: dict[str, int],
    args: SquidsArgs,
    own: pulumi.ResourceOptions,
) -> None:
    core.Service(
        resource,
        metadata=meta.ObjectMetaArgs(
            name=service,
            namespace=args.namespace,
            labels=labels(args.site, "squid"),
            # The engine would wait here for ready pods too, after it has waited for the Deployment.
            annotations={
                "pulumi.com/skipAwait": "true",
                **(pods.scraped(ports["metrics"]) if "metrics" in ports else {}),
            },
        ),
        spec=core.ServiceSpecArgs(
            type="ClusterIP",
            selector=picks,
            ports=[core.ServicePortArgs(name=port, port=number, target_port=port) for port, number in ports.items()],
        ),
        opts=own,
    )


def _member(site: str, index: int) -> dict[str, str]:
    return {**selector(site, "squid"), MEMBER: str(index)}


def _metadata(name: str, args: SquidsArgs) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(name=name, namespace=args.namespace, labels=labels(args.site, "squid"))


def _address(service: str, site: str) -> str:
    return f"http://{naming.service_host(service, naming.namespace(site))}:{SQUID_PORT}"
