"""Labels, as pure functions: the recommended ones of Kubernetes, the same on everything that a stack declares."""

PART_OF = "atlas-sites"
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"


def selector(site: str, component: str) -> dict[str, str]:
    """What picks the pods of one component; immutable in Kubernetes, so it holds only what never changes."""
    return {NAME: component, INSTANCE: site}


def labels(site: str, component: str) -> dict[str, str]:
    """The labels of an object of this component."""
    return {
        **selector(site, component),
        "app.kubernetes.io/part-of": PART_OF,
        "app.kubernetes.io/managed-by": "pulumi",
    }
