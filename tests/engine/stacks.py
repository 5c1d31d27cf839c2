"""Stacks of this checkout's program, in a project to be thrown away, and what the engine would do with them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from local.paths import CHECKOUT
from tests.engine.projects import RUNTIME, Project

# Of no cluster, nor cloud: the stack and our components.
OURS = ("pulumi:pulumi:", "atlas-sites:")
PROGRAM = f"""\
import runpy
import sys

sys.path.insert(0, {str(CHECKOUT)!r})
runpy.run_path({str(CHECKOUT / "__main__.py")!r}, run_name="__main__")
"""
DIGEST = f"sha256:{'0' * 64}"
IMAGES = {
    "registry": "registry.example.org/atlas",
    "digests": {"startd": DIGEST, "squid": DIGEST, "services": DIGEST, "cvmfs": f"registry.example.org/cvmfs@{DIGEST}"},
}
SHARED: Mapping[str, Any] = {
    "pool": {"collector": "pool.example.org:9618", "trustDomain": "pool.example.org"},
    "credentials": {"hostCertificate": {"secret": "atlas-cert", "namespace": "default"}},
    "squid": {"destinations": [".cern.ch"]},
    "cvmfs": {"repositories": ["atlas.cern.ch"]},
    "startds": {"limits": {"pods": 10, "cores": 10, "memoryMib": 20480}},
}
Site = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """The stack dev of a project that is this checkout's program."""

    project: Project

    def __post_init__(self) -> None:
        ours = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())
        (self.project.directory / "Pulumi.yaml").write_text(
            yaml.safe_dump({**ours, "name": "probe", "runtime": RUNTIME})
        )

    def of(self, sites: Sequence[Site]) -> "Stack":
        """With these sites from now on."""
        self.project.write(
            PROGRAM,
            {"probe:images": IMAGES, "probe:defaults": dict(SHARED), "probe:sites": [dict(site) for site in sites]},
        )
        return self

    def preview(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a preview with the policies."""
        return self.project.pulumi("preview", "--policy-pack", str(CHECKOUT / "policies"), *words)

    def up(self) -> None:
        """Makes what the stack says."""
        self.project.succeeds("up", "--yes", "--skip-preview")

    def state(self) -> list[dict[str, Any]]:
        """The resources that there are."""
        state = json.loads(self.project.succeeds("stack", "export"))["deployment"]
        resources: list[dict[str, Any]] = state.get("resources", [])
        return resources

    def names(self) -> set[str]:
        """Of the resources that there are, but for what is only ours."""
        return {_name(resource["urn"]) for resource in self.state() if not _type(resource["urn"]).startswith(OURS)}


def planned(project: Project, *words: str) -> dict[str, str]:
    """What the next `up` would do, by name; of what it leaves alone nothing is told, nor of what is only ours."""
    plan = json.loads(project.succeeds("preview", "--json", *words))
    made = [step for step in plan["steps"] if not _type(step["urn"]).startswith(OURS) and step["op"] != "same"]
    return {_name(step["urn"]): step["op"] for step in made}


def _name(urn: str) -> str:
    return urn.rsplit("::", 1)[1]


def _type(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", 1)[-1]
