"""What pods take from their nodes: bounded, so that one cannot starve another."""

from collections.abc import Iterator

from pulumi_policy import ResourceValidationArgs, Severity

from rules import pods
from rules.pods import STARTD_SET, pod_of
from rules.rule import at, items, rule

BOUNDED = ("cpu", "memory")
# A payload writes what it likes; without a limit the node evicts whom it likes when its disk is full.
DISK = "ephemeral-storage"


def _check_resources(args: ResourceValidationArgs) -> Iterator[str]:
    pod = pod_of(args)
    for container in pod.containers():
        for section in ("requests", "limits"):
            # What merely prepares a startd shares the pod's disk, and only the limits of each container count apart.
            wanted = (*BOUNDED, DISK) if pod.kind == STARTD_SET and section == "limits" else BOUNDED
            given = set(at(container, "resources", section))
            if missing := [name for name in wanted if name not in given]:
                yield f"Container {container['name']} of {args.name} has no {section} of {' and '.join(missing)}"


def _check_scratch(args: ResourceValidationArgs) -> Iterator[str]:
    for volume in items(pod_of(args).spec, "volumes"):
        if "emptyDir" in volume and not at(volume, "emptyDir").get("sizeLimit"):
            yield f"Volume {volume['name']} of {args.name} has no sizeLimit"


RULES = (
    rule(
        name="limits-and-requests-set",
        description="Every container has requests and limits of cpu and memory, and in a startd a limit of disk.",
        severity=Severity.MEDIUM,
        remedy="Set resources.requests and resources.limits.",
        kinds=pods.KINDS,
        check=_check_resources,
    ),
    rule(
        name="scratch-is-bounded",
        description="Every emptyDir has a size limit.",
        severity=Severity.MEDIUM,
        remedy="Set emptyDir.sizeLimit.",
        kinds=pods.KINDS,
        check=_check_scratch,
    ),
)
