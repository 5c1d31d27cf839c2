"""Labels, as pure functions: the recommended ones of Kubernetes, the same on everything that a stack declares."""

PART_OF = "atlas-sites"
PART = "app.kubernetes.io/part-of"
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"


def selector(site: str, component: str) -> dict[str, str]:
    """What picks the pods of one component; immutable in Kubernetes, so it holds only what never changes."""
    return {NAME: component, INSTANCE: site}


def labels(site: str, component: str) -> dict[str, str]:
    """The labels of an object of this component."""
    return {
        **selector(site, component),
        PART: PART_OF,
        "app.kubernetes.io/managed-by": "pulumi",
    }


def cost_tags(site: str, pool: str | None = None) -> dict[str, str]:
    """The tags, or labels, by which a cloud's bill tells what each site and pool cost."""
    return {"atlas-sites-site": site} | ({} if pool is None else {"atlas-sites-pool": pool})
