"""A project of several sites made of things, for tests of what is done to one of them and not to the others."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.engine.projects import RUNTIME, Project

# Sites as the program makes them: a component of that type, with all that is in the site below it.
PROGRAM = """\
import pulumi


class Thing(pulumi.CustomResource):
    def __init__(self, name, props, opts):
        super().__init__("things:index:Thing", name, props, opts)


class Squids(pulumi.ComponentResource):
    def __init__(self, name, place, opts):
        super().__init__("atlas-sites:index:Squids", name, None, opts)
        Thing(f"{name}-0", {"place": place}, pulumi.ResourceOptions(parent=self))
        self.register_outputs({})


class Site(pulumi.ComponentResource):
    def __init__(self, name, place):
        super().__init__("atlas-sites:index:Site", name)
        Squids(f"{name}-squid", place, pulumi.ResourceOptions(parent=self))
        self.register_outputs({})


config = pulumi.Config()
for name in config.require_object("sites"):
    Site(name, config.require("place"))
kubeconfig = pulumi.Output.secret("hush-hush")
pools = [{"name": "big1", "max": 10, "pricePerHour": 0.5}]
names = config.require_object("sites")
pulumi.export("sites", {name: {"cluster": {"kubeconfig": kubeconfig, "pools": pools}} for name in names})
"""
PACK = """\
from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy


def no_cellar(args, report):
    if args.name == "cellar-squid-0":
        report("It is damp.", None)


rule = ResourceValidationPolicy(name="no-cellar", description="Nothing is in a cellar.", validate=no_cellar)
PolicyPack("probe", policies=[rule], enforcement_level=EnforcementLevel.MANDATORY)
"""
UP = ("up", "--stack", "dev", "--yes")


@dataclass(frozen=True)
class Federation:
    """A project of sites, and a place in which their things are."""

    project: Project
    place: Path

    def declare(self, *sites: str) -> None:
        self.project.write(PROGRAM, {"probe:sites": list(sites), "probe:place": str(self.place)})
        for site in sites:
            (self.place / f"{site}-squid-0.let").touch()

    def made(self) -> set[str]:
        state = json.loads(self.project.succeeds("stack", "export"))["deployment"]["resources"]
        names = {resource["urn"].rsplit("::", 1)[-1] for resource in state if resource["type"] == "things:index:Thing"}
        return {name.removesuffix("-squid-0") for name in names}

    def deploy(self, *words: str) -> tuple[int, str]:
        """Exit code and output of `python -m deploy`."""
        return self.project.deploy(*words)


def found(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Federation:
    """A federation without sites, with a policy pack and the provider of things."""
    plugin = tmp_path / "plugins" / "pulumi-resource-things"
    plugin.parent.mkdir()
    plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("things.py")}" "$@"\n')
    plugin.chmod(0o755)
    monkeypatch.setenv("PATH", f"{plugin.parent}:{os.environ['PATH']}")
    pack = project.directory / "policies"
    pack.mkdir()
    (pack / "PulumiPolicy.yaml").write_text(yaml.safe_dump({"runtime": RUNTIME}))
    (pack / "__main__.py").write_text(PACK)
    place = tmp_path / "place"
    place.mkdir()
    return Federation(project, place)
