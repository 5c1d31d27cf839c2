"""Stacks of this checkout's program, in a project to be thrown away, and what the engine would do with them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from local.paths import CHECKOUT
from tests.engine.projects import RUNTIME, Project

# Of no cluster, nor cloud: the stack and our components.
OURS = ("pulumi:pulumi:", "atlas-sites:")
RUN = """\
import runpy
import sys

sys.path.insert(0, {place!r})
runpy.run_path({place!r} + "/__main__.py", run_name="__main__")
"""
PROGRAM, PACK = RUN.format(place=str(CHECKOUT)), RUN.format(place=str(CHECKOUT / "policies"))
DIGEST = f"sha256:{'0' * 64}"
IMAGES = {
    "registry": "registry.example.org/atlas",
    "digests": {
        **dict.fromkeys(("startd", "squid", "services", "timeseries"), DIGEST),
        "cvmfs": f"registry.example.org/cvmfs@{DIGEST}",
    },
}
SHARED: Mapping[str, Any] = {
    "pool": {"collector": "pool.example.org:9618", "trustDomain": "pool.example.org"},
    "credentials": {"hostCertificate": {"secret": "atlas-cert", "namespace": "default"}},
    "squid": {"destinations": [".cern.ch"]},
    "cvmfs": {"repositories": ["atlas.cern.ch"]},
    "startds": {"limits": {"pods": 10, "cores": 10, "memoryMib": 20480}},
}
# What a stack says of a cluster in each cloud: the least.
CLUSTER: Mapping[str, Any] = {
    "kubernetesVersion": "1.33",
    "authorizedNetworks": ["192.0.2.0/24"],
}
UUID = "00000000-0000-0000-0000-000000000001"
CLUSTERS: Mapping[str, Any] = {
    "azure": {
        **CLUSTER,
        "subscription": UUID,
        "region": "westeurope",
        "adminGroups": [UUID],
        "systemPool": {"size": "Standard_D4ds_v5"},
    },
    "gcp": {
        **CLUSTER,
        "project": "site-1",
        "region": "europe-west4",
        "zone": "europe-west4-a",
        "systemPool": {"size": "n2-standard-8"},
    },
    "aws": {
        **CLUSTER,
        "account": "123456789012",
        "region": "eu-central-1",
        "zone": "eu-central-1a",
        "secondZone": "eu-central-1b",
        "admins": ["arn:aws:iam::123456789012:role/deploy"],
        "autoscalerImage": f"registry.example.org/cluster-autoscaler@{DIGEST}",
        "systemPool": {"size": "m7i.xlarge"},
    },
}
POOLS: Mapping[str, Any] = {
    "azure": {"size": "Standard_D8ds_v5"},
    "gcp": {"size": "n2-standard-8", "localSsds": 1},
    "aws": {"size": "m6id.2xlarge"},
}
Site = Mapping[str, Any]
Sites = Callable[..., dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The stack dev of a project that is this checkout's program."""

    project: Project

    def __post_init__(self) -> None:
        ours = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())
        (self.project.directory / "Pulumi.yaml").write_text(
            yaml.safe_dump({**ours, "name": "probe", "runtime": RUNTIME})
        )

    def of(self, sites: Sequence[Site], portal: Mapping[str, Any] | None = None) -> "Stack":
        """With these sites from now on, and a portal if it is to have one."""
        self.project.write(
            PROGRAM,
            {
                "probe:images": IMAGES,
                "probe:defaults": dict(SHARED),
                "probe:sites": [dict(site) for site in sites],
                "probe:portal": dict(portal or {}),
            },
        )
        return self

    def preview(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a preview with the policies."""
        return self.project.pulumi("preview", "--policy-pack", str(CHECKOUT / "policies"), *words)

    def deploy(self, *words: str) -> tuple[int, str]:
        """Exit code and output of `python -m deploy`, which looks for the policies in the project."""
        pack = self.project.directory / "policies"
        pack.mkdir(exist_ok=True)
        (pack / "PulumiPolicy.yaml").write_text(yaml.safe_dump({"runtime": RUNTIME}))
        (pack / "__main__.py").write_text(PACK)
        return self.project.deploy(*words)

    def up(self) -> None:
        """Makes what the stack says."""
        self.project.succeeds("up", "--yes", "--skip-preview")

    def state(self, *words: str) -> list[dict[str, Any]]:
        """The resources that there are."""
        state = json.loads(self.project.succeeds("stack", "export", *words))["deployment"]
        resources: list[dict[str, Any]] = state.get("resources", [])
        return resources

    def names(self, token: str | None = None) -> set[str]:
        """Of the resources that there are, but for what is only ours; of one type, if one is given."""
        found = [resource["urn"] for resource in self.state() if not _type(resource["urn"]).startswith(OURS)]
        return {name_of(urn) for urn in found if token in {None, _type(urn)}}


def cloud_site(kind: str, *pools: Mapping[str, Any], name: str = "tide", **cluster: Any) -> dict[str, Any]:
    """What a stack says of a site in that cloud: one pool, of ten nodes at most, unless others are given."""
    own = [{"name": "jobs", "max": 10, **POOLS[kind], **pool} for pool in pools or ({},)]
    return {
        "name": name,
        "kind": kind,
        "atlasSite": "TIDE",
        "cluster": {**CLUSTERS[kind], **cluster},
        "jobPools": own,
    }


def planned(project: Project, *words: str) -> dict[str, str]:
    """What the next `up` would do, by name; of what it leaves alone nothing is told, nor of what is only ours."""
    plan = json.loads(project.succeeds("preview", "--json", *words))
    made = [step for step in plan["steps"] if not _type(step["urn"]).startswith(OURS) and step["op"] != "same"]
    return {name_of(step["urn"]): step["op"] for step in made}


def name_of(urn: str) -> str:
    """The name that the program gave a resource."""
    return urn.rsplit("::", 1)[1]


def _type(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", 1)[-1]
