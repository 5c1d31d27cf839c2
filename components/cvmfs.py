"""The software repositories of the experiment, mounted once on each node for all pods of the site.

The mounts appear in a directory of the node; a pod sees them, also those that appear later, if it mounts that directory
itself (not one repository in it) with propagation HostToContainer. In mode `host` the node mounts /cvmfs by its own
means and no pod is deployed. In mode `csi` a storage driver mounts, for a claim that somebody else has made.

Startds get that directory by a claim: their namespace admits no volume that names a path of the node, and what a claim
stands for is decided here, not in a pod.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pulumi
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from components import agent, naming
from components.after import after
from components.labels import labels

# Below /var, since the root directory cannot be written on some clouds' nodes (Container-Optimized OS).
MOUNTS = "/var/cvmfs"
CACHE = "/var/cvmfs-cache"
HOST_MOUNTS = "/cvmfs"  # mode host: where a node's own client mounts
CLAIM = "cvmfs"
# Scripts of CERN's image, run by its busybox. What a container that was killed has mounted is dead, and its own start
# leaves that on the node, below the new mount, when a pod has a file of it open.
START = """\
for place in /cvmfs/*; do
  while ls "$place" 2>&1 >/dev/null | grep -q "not connected"; do umount -l "$place" || break; done
done
exec /usr/bin/mount_cvmfs.sh"""
# Who looks at a mount that hangs, hangs, and outlives the script that is killed when its time is over. He must not hold
# the script's own output, for whose end containerd waits two minutes more.
CHECK = 'said=$(/usr/bin/check_cvmfs.sh {} 2>&1); code=$?; echo "$said"; exit $code'


@dataclass(frozen=True, kw_only=True)
class CvmfsArgs:
    """What is mounted and through which proxies.

    Attributes:
        site: the site's name.
        namespace: the privileged one.
        consumers: the namespace whose pods may mount the repositories.
        image: CERN's service image, or another that obeys the same variables and has the same scripts.
        mode: `daemonset` mounts by a pod on each node; `host` and `csi` deploy none.
        claim: with mode `csi` the claim that is there already, in the namespace of the consumers.
        repositories: full names.
        proxies: in the syntax of CVMFS_HTTP_PROXY.
        server_url: where the repositories come from, with @fqrn@ for the name; the image's own servers by default.
        quota_mib: of the cache on each node.
    """

    site: str
    namespace: pulumi.Input[str]
    consumers: pulumi.Input[str]
    image: str
    mode: Literal["daemonset", "host", "csi"]
    claim: str | None = None
    repositories: Sequence[str]
    proxies: str
    server_url: str | None = None
    quota_mib: int


class Cvmfs(pulumi.ComponentResource):
    """Repositories under one directory of each node.

    Attributes:
        host_path: that directory; None with mode `csi`, where it is the driver's own business.
        claim: to mount it by, in the namespace of the consumers; the claim's name, known once it is bound.
    """

    host_path: str | None
    claim: pulumi.Output[str]

    def __init__(self, name: str, args: CvmfsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("atlas-sites:index:Cvmfs", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        if args.claim is not None:
            self.host_path = None
            self.claim = pulumi.Output.from_input(args.claim)
        else:
            self.host_path = HOST_MOUNTS if args.mode == "host" else MOUNTS
            if args.mode == "daemonset":
                _mounter(name, args, own)
            self.claim = _claim(name, self.host_path, args, own)
        self.register_outputs(
            {"hostPath": self.host_path, "claim": self.claim, "repositories": list(args.repositories)}
        )


def environment(args: CvmfsArgs) -> dict[str, str]:
    """The client's configuration; every CVMFS_ variable reaches it."""
    variables = {
        "CVMFS_REPOSITORIES": ",".join(args.repositories),
        "CVMFS_HTTP_PROXY": args.proxies,
        # Each object lives on one squid, and a dead squid's share goes to the others.
        "CVMFS_PROXY_SHARD": "yes",
        "CVMFS_QUOTA_LIMIT": str(args.quota_mib),
    }
    if args.server_url is not None:
        variables["CVMFS_SERVER_URL"] = args.server_url
    return variables


def _mounter(name: str, args: CvmfsArgs, own: pulumi.ResourceOptions) -> None:
    described = agent.AgentArgs(
        site=args.site,
        namespace=args.namespace,
        name="cvmfs",
        # A restart breaks the open files of every job on the node, so an update waits for the node to be replaced.
        update=agent.BY_HAND,
        grace_seconds=60,
        container=_client(args),
        volumes=[
            agent.of_node("mounts", MOUNTS),
            agent.of_node("cache", CACHE),
            agent.of_node("fuse", "/dev/fuse", "CharDevice"),
        ],
    )
    agent.daemon_set(f"{name}-mounter", described, agent.account(f"{name}-account", described, own), [], own)


def _claim(name: str, host_path: str, args: CvmfsArgs, own: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """A claim and a volume over the directory, each of which names the other, so that neither can be taken."""
    # Sizes are asked for by the API and mean nothing for a directory of the node.
    size, modes = {"storage": "1Mi"}, ["ReadOnlyMany"]
    volume = core.PersistentVolume(
        f"{name}-volume",
        metadata=meta.ObjectMetaArgs(name=naming.cvmfs_volume(args.site), labels=labels(args.site, "cvmfs")),
        spec=core.PersistentVolumeSpecArgs(
            capacity=size,
            access_modes=modes,
            storage_class_name="",
            persistent_volume_reclaim_policy="Retain",
            host_path=core.HostPathVolumeSourceArgs(path=host_path, type="DirectoryOrCreate"),
            claim_ref=core.ObjectReferenceArgs(name=CLAIM, namespace=args.consumers),
        ),
        opts=own,
    )
    claim = core.PersistentVolumeClaim(
        f"{name}-claim",
        metadata=meta.ObjectMetaArgs(name=CLAIM, namespace=args.consumers, labels=labels(args.site, "cvmfs")),
        spec=core.PersistentVolumeClaimSpecArgs(
            access_modes=modes,
            storage_class_name="",
            volume_name=after(volume, naming.cvmfs_volume(args.site)),
            resources=core.VolumeResourceRequirementsArgs(requests=size),
        ),
        opts=own,
    )
    return after(claim, CLAIM)


def _client(args: CvmfsArgs) -> core.ContainerArgs:
    return core.ContainerArgs(
        name="cvmfs",
        image=args.image,
        command=["/bin/sh", "-c", START],
        env=[core.EnvVarArgs(name=key, value=value) for key, value in environment(args).items()],
        # The mounts of a container reach its node only from a privileged one.
        security_context=core.SecurityContextArgs(privileged=True),
        # Generous: when the client is killed for memory, every job on the node loses its software.
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "50m", "memory": "128Mi"}, limits={"cpu": "2", "memory": "2Gi"}
        ),
        volume_mounts=[
            core.VolumeMountArgs(name="mounts", mount_path="/cvmfs", mount_propagation="Bidirectional"),
            core.VolumeMountArgs(name="cache", mount_path="/var/lib/cvmfs"),
            core.VolumeMountArgs(name="fuse", mount_path="/dev/fuse"),
        ],
        startup_probe=_check("readiness", period=2, failures=90),
        readiness_probe=_check("readiness", period=10, failures=3),
        # Whoever reads from a mount that hangs waits until this has ended it. By then it has nothing to end in peace.
        liveness_probe=_check("liveness", period=15, failures=3, grace=10),
        lifecycle=core.LifecycleArgs(
            pre_stop=core.LifecycleHandlerArgs(exec_=core.ExecActionArgs(command=["/usr/bin/terminate.sh"]))
        ),
    )


def _check(what: str, *, period: int, failures: int, grace: int | None = None) -> core.ProbeArgs:
    return core.ProbeArgs(
        exec_=core.ExecActionArgs(command=["/bin/sh", "-c", CHECK.format(what)]),
        period_seconds=period,
        timeout_seconds=10,
        failure_threshold=failures,
        termination_grace_period_seconds=grace,
    )
