"""What Prometheus asks at each site, made from the outputs of another stack.

Other things are put on the sites' clusters with a provider for each, whose kubeconfig is that of the site's outputs.
"""

from collections.abc import Mapping
from typing import Any

import pulumi

SCHEMA_VERSION = 1


def targets(sites: Mapping[str, Any]) -> list[dict[str, Any]]:
    """As Prometheus reads them from a file (`file_sd_configs`), by name: what another stack gives has no order."""
    return [
        {
            "targets": [
                address.removeprefix("http://").removesuffix("/metrics")
                for _, address in sorted(site["metrics"].items())
                if address is not None
            ],
            "labels": {"site": name, "atlas_site": site["atlasSite"], "kind": site["cluster"]["kind"]},
        }
        for name, site in sorted(sites.items())
    ]


def checked(version: float) -> int:
    """The version of the outputs; numbers of another stack come as floats.

    Raises:
        pulumi.RunError: this program was not written for it.
    """
    if version != SCHEMA_VERSION:
        raise pulumi.RunError(f"outputs of version {version:g}; this program reads {SCHEMA_VERSION}")
    return int(version)


other = pulumi.StackReference(pulumi.Config().require("sites"))
# The kubeconfigs among them are secret, and whatever is made of them all with `apply` would be too: so it is told that
# this holds none.
sites = other.require_output("sites")
pulumi.export("version", other.require_output("schemaVersion").apply(checked))
pulumi.export("targets", pulumi.Output.unsecret(sites.apply(targets)))
pulumi.export(
    "cores", pulumi.Output.unsecret(sites.apply(lambda all_: sum(one["startds"]["cores"] for one in all_.values())))
)
