"""What the pods of all components have in common, and the volumes that outlive them."""

import pulumi
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

HTTP_PORT = 8080  # where a service tells its health
SERVICE_UID = 1000
# Many storage classes make the volume where the pod is to run: the claim waits for the pod.
WAITS_FOR_ITS_POD = {"pulumi.com/skipAwait": "true"}


def unprivileged() -> core.SecurityContextArgs:
    """A container that can gain nothing beyond what it starts with."""
    return core.SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=core.CapabilitiesArgs(drop=["ALL"]),
    )


def running_as(uid: int) -> core.PodSecurityContextArgs:
    """A pod whose processes and volumes belong to one ordinary user."""
    return core.PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=uid,
        run_as_group=uid,
        fs_group=uid,
        seccomp_profile=core.SeccompProfileArgs(type="RuntimeDefault"),
    )


def resources(*, cores: str, most_cores: str, memory: str) -> core.ResourceRequirementsArgs:
    """Requests and limits; memory is never promised twice."""
    return core.ResourceRequirementsArgs(
        requests={"cpu": cores, "memory": memory}, limits={"cpu": most_cores, "memory": memory}
    )


def from_field(name: str, path: str) -> core.EnvVarArgs:
    """An environment variable that holds a field of the pod itself."""
    return core.EnvVarArgs(
        name=name,
        # With the version, that the API server would fill in: it takes both for one field, so that a stack whose state
        # was lost would be told of a conflict with itself.
        value_from=core.EnvVarSourceArgs(field_ref=core.ObjectFieldSelectorArgs(api_version="v1", field_path=path)),
    )


def http_probe(path: str, *, period: int, failures: int, port: int = HTTP_PORT) -> core.ProbeArgs:
    """A probe of a service's own account of its health."""
    return core.ProbeArgs(
        http_get=core.HTTPGetActionArgs(path=path, port=port),
        period_seconds=period,
        timeout_seconds=5,
        failure_threshold=failures,
    )


def scraped(port: int) -> dict[str, str]:
    """Annotations of a Service by which Prometheus, as its charts configure it, finds whom to ask."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)}


def scratch(name: str, size: str) -> core.VolumeArgs:
    """An empty directory that cannot fill the node."""
    return core.VolumeArgs(name=name, empty_dir=core.EmptyDirVolumeSourceArgs(size_limit=size))


def store(name: str, size: str, claim: str | None) -> core.VolumeArgs:
    """Room for what a service keeps: on a claim, or, of that size, in the pod, with which it goes."""
    if claim is None:
        return scratch(name, size)
    return core.VolumeArgs(
        name=name, persistent_volume_claim=core.PersistentVolumeClaimVolumeSourceArgs(claim_name=claim)
    )


def claim(
    resource: str, metadata: meta.ObjectMetaArgs, mib: int, storage_class: str | None, own: pulumi.ResourceOptions
) -> core.PersistentVolumeClaim:
    """Room on a volume that outlives the pod, of one node at a time.

    Args:
        resource: its name in the state.
        metadata: with `WAITS_FOR_ITS_POD` among the annotations.
        mib: of room.
        storage_class: None for the cluster's own choice.
        own: options.
    """
    return core.PersistentVolumeClaim(
        resource,
        metadata=metadata,
        spec=core.PersistentVolumeClaimSpecArgs(
            access_modes=["ReadWriteOnce"],
            storage_class_name=storage_class,
            resources=core.VolumeResourceRequirementsArgs(requests={"storage": f"{mib}Mi"}),
        ),
        opts=own,
    )
