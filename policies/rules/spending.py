"""What a stack may cost, and how a bill tells whose cost it is.

What a user of the pack allows is told by its configuration; without one, each rule allows all.
"""

import json
from collections.abc import Iterator

from pulumi_policy import PolicyConfigSchema, ResourceValidationArgs, Severity

from rules.clouds import (
    AMAZON_POOL,
    AMAZON_PROVIDER,
    AZURE_CLUSTER,
    AZURE_GROUP,
    AZURE_POOL,
    GOOGLE_CLUSTER,
    GOOGLE_POOL,
    POOL_TAG,
    POOLS,
    SITE_TAG,
    sizes,
    tags,
)
from rules.rule import at, rule

CONFIG_MAP = "ConfigMap"
NODE_POOLS = "node-pools"  # the ConfigMap by which the vacuum controller knows the pools
HOURS_PER_MONTH = 730
REGIONS, SIZES, CEILING = "regions", "sizes", "perMonth"


def _check_region(args: ResourceValidationArgs) -> Iterator[str]:
    allowed = args.get_config().get(REGIONS) or []
    found = str(args.props.get("region" if args.resource_type == AMAZON_PROVIDER else "location", "a default region"))
    # A zone's name begins with its region's.
    if allowed and not any(found == region or found.startswith(f"{region}-") for region in allowed):
        yield f"{args.name} is in {found}; allowed: {', '.join(allowed)}"


def _check_size(args: ResourceValidationArgs) -> Iterator[str]:
    allowed = args.get_config().get(SIZES) or []
    for size in sizes(args):
        if allowed and size not in allowed:
            yield f"{args.name} is of machines {size}; allowed: {', '.join(allowed)}"


def _check_ceiling(args: ResourceValidationArgs) -> Iterator[str]:
    if at(args.props, "metadata").get("name") != NODE_POOLS:
        return
    ceiling = args.get_config().get(CEILING)
    if ceiling is None:
        return
    # What retires makes no new nodes, and goes while its successor comes.
    pools = [pool for pool in json.loads(at(args.props, "data").get("pools.json", "[]")) if not pool.get("retiring")]
    unpriced = [pool["name"] for pool in pools if pool.get("pricePerHour") is None]
    if unpriced:
        yield f"{args.name} could cost anything: nobody says what a node of pool {' or '.join(unpriced)} costs"
    most = HOURS_PER_MONTH * sum(pool["max"] * (pool.get("pricePerHour") or 0) for pool in pools)
    if most > ceiling:
        yield f"{args.name} allows nodes for {most:,.0f} a month; the ceiling is {ceiling:,.0f}"


def _check_tags(args: ResourceValidationArgs) -> Iterator[str]:
    wanted = {POOL_TAG} if args.resource_type in POOLS else set()
    # On AWS the provider puts the site's tag on all that it makes.
    if args.resource_type != AMAZON_POOL:
        wanted.add(SITE_TAG)
    if missing := sorted(wanted - set(tags(args))):
        yield f"{args.name} has no tag {' and '.join(missing)}"


RULES = (
    rule(
        name="allowed-regions",
        description="Clusters are in regions that the configuration of the pack allows.",
        severity=Severity.MEDIUM,
        remedy="Choose one of them, or have this one allowed.",
        kinds={AZURE_GROUP, GOOGLE_CLUSTER, AMAZON_PROVIDER},
        check=_check_region,
        config=PolicyConfigSchema(properties={REGIONS: {"type": "array", "items": {"type": "string"}, "default": []}}),
    ),
    rule(
        name="allowed-sizes",
        description="Nodes are of machine types that the configuration of the pack allows.",
        severity=Severity.MEDIUM,
        remedy="Choose one of them, or have this one allowed.",
        kinds={*POOLS, AZURE_CLUSTER},
        check=_check_size,
        config=PolicyConfigSchema(properties={SIZES: {"type": "array", "items": {"type": "string"}, "default": []}}),
    ),
    rule(
        name="monthly-cost-ceiling",
        description="All job pools of a site together, at their maxima, cost no more a month than is allowed.",
        severity=Severity.HIGH,
        remedy="Lower max of a pool, give its pricePerHour, or have the ceiling raised.",
        kinds={CONFIG_MAP},
        check=_check_ceiling,
        config=PolicyConfigSchema(properties={CEILING: {"type": "number", "minimum": 0}}),
    ),
    rule(
        name="cost-tags",
        description="Clusters and pools bear the tags by which a bill tells sites and pools apart.",
        severity=Severity.MEDIUM,
        remedy="Give the tags that components/labels.py makes.",
        kinds={AZURE_CLUSTER, AZURE_POOL, GOOGLE_CLUSTER, GOOGLE_POOL, AMAZON_PROVIDER, AMAZON_POOL},
        check=_check_tags,
    ),
)
