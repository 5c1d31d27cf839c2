"""Nodes of the clouds: on local disk, and taken back at any time only where nothing but payloads is lost."""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

from pulumi_policy import ResourceValidationArgs, Severity

from rules.clouds import (
    AMAZON_TEMPLATE,
    AZURE_CLUSTER,
    AZURE_POOL,
    GOOGLE_POOL,
    JOBS_TAINT,
    POOL_TAG,
    POOLS,
    SYSTEM,
    for_jobs,
    node_config,
    taints,
)
from rules.rule import at, items, rule

# What AKS puts on the nodes of a spot pool by itself; undeclared, it is a difference for ever.
AZURE_SPOT = "kubernetes.azure.com/scalesetpriority"
RAID = re.compile(r'^\s*"?strategy"?\s*:\s*"?RAID0', re.MULTILINE)


def _check_disk(args: ResourceValidationArgs) -> Iterator[str]:
    if args.resource_type == AZURE_POOL:
        yield from _azure_disk(args)
    elif args.resource_type == GOOGLE_POOL:
        disks = at(node_config(args), "ephemeralStorageLocalSsdConfig").get("localSsdCount") or 0
        if for_jobs(args) and disks < 1:
            yield f"{args.name} puts images and emptyDir on a disk over the network"
    elif _is_for_jobs(args) and not RAID.search(_user_data(args)):
        yield f"{args.name} leaves the machine's disks unused: its user data has no localStorage strategy RAID0"


def _azure_disk(args: ResourceValidationArgs) -> Iterator[str]:
    if args.props.get("mode") == "System" or args.props.get("kubeletDiskType") == "Temporary":
        return
    for key, wanted in (("osDiskType", "Ephemeral"), ("kubeletDiskType", "OS")):
        found = args.props.get(key)
        if found != wanted:
            yield f"{args.name} has {key} {found or 'left to Azure'} and not {wanted}"


def _is_for_jobs(template: ResourceValidationArgs) -> bool:
    """Whether a launch template is of a pool of startds, as its tags tell."""
    pools = {at(block, "tags").get(POOL_TAG) for block in items(template.props, "tagSpecifications")}
    return bool(pools - {None, SYSTEM})


def _user_data(template: ResourceValidationArgs) -> str:
    return b64decode(template.props.get("userData") or "").decode(errors="replace")


def _is_spot(pool: Mapping[str, Any]) -> bool:
    return bool(
        pool.get("scaleSetPriority") == "Spot"
        or pool.get("capacityType") == "SPOT"
        or pool.get("spot")
        or pool.get("preemptible")
    )


def _check_spot(args: ResourceValidationArgs) -> Iterator[str]:
    if args.resource_type == AZURE_CLUSTER:
        for profile in items(args.props, "agentPoolProfiles"):
            if _is_spot(profile):
                yield f"Pool {profile['name']} of {args.name} is of spot machines and holds squids and services"
        return
    if not _is_spot(node_config(args)):
        return
    found = list(taints(args))
    if JOBS_TAINT not in found or not for_jobs(args):
        yield f"{args.name} is of spot machines and no pool of startds alone, so squids and services may run there"
    if args.resource_type == AZURE_POOL and (AZURE_SPOT not in found or AZURE_SPOT not in at(args.props, "nodeLabels")):
        yield f"{args.name} does not declare the taint and the label {AZURE_SPOT}, which AKS adds by itself"


def _check_jobs(args: ResourceValidationArgs) -> Iterator[str]:
    if for_jobs(args) and JOBS_TAINT not in taints(args):
        yield f"{args.name} is a pool of startds without the taint {JOBS_TAINT}, so anything may run there"


RULES = (
    rule(
        name="local-disk-kubelet",
        description="Images, logs and emptyDir of nodes for startds are on the machine's own disks.",
        severity=Severity.HIGH,
        remedy=(
            "Set osDiskType Ephemeral and kubeletDiskType OS (AKS), ephemeralStorageLocalSsdConfig.localSsdCount (GKE) "
            "or localStorage strategy RAID0 in the nodeadm configuration (EKS)."
        ),
        kinds={AZURE_POOL, GOOGLE_POOL, AMAZON_TEMPLATE},
        check=_check_disk,
    ),
    rule(
        name="job-pools-for-startds-alone",
        description="Nodes that come and go with startds hold nothing else, whose pods would keep them or be lost.",
        severity=Severity.MEDIUM,
        remedy=f"Give the pool the taint {JOBS_TAINT}.",
        kinds=POOLS,
        check=_check_jobs,
    ),
    rule(
        name="spot-only-for-job-pools",
        description="Machines that a cloud may take back at any time hold nothing but startds.",
        severity=Severity.HIGH,
        remedy="Make the pool of machines on demand, or one for startds alone.",
        kinds={*POOLS, AZURE_CLUSTER},
        check=_check_spot,
    ),
)
