"""docs/runbooks: the commands exist, and what they say of states is so."""

import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from local.paths import CHECKOUT
from tests.engine.federation import UP, Federation, found
from tests.engine.projects import Project

pytestmark = pytest.mark.engine

RUNBOOKS = sorted((CHECKOUT / "docs/runbooks").glob("*.md"))
FENCED = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`\n]+)`")
WITHIN = re.compile(r"(?:^|[(;|] *)(pulumi [^|;>)]+)")
SITE = "urn:pulumi:dev::probe::atlas-sites:index:Site::{}"


@pytest.fixture
def federation(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Federation:
    return found(project, tmp_path, monkeypatch)


def commands() -> list[tuple[str, ...]]:
    """Each command of the engine that a runbook says, in words without `pulumi`."""
    said: dict[tuple[str, ...], None] = {}
    for file in RUNBOOKS:
        text = file.read_text()
        lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
        for line in [*lines, *QUOTED.findall(FENCED.sub("", text))]:
            said |= {tuple(shlex.split(command)[1:]): None for command in WITHIN.findall(line.strip())}
    return list(said)


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[:60])
def test_a_command_of_a_runbook_exists_with_its_options(project: Project, words: tuple[str, ...]) -> None:
    names = words[:2] if words[0] in {"stack", "state"} else words[:1]
    told = project.succeeds(*names, "--help")
    assert f"pulumi {names[0]}" in told[told.index("Usage:") :]
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    assert {option for option in options if not re.search(rf"{option}[ \[]", told)} == set()


def test_a_site_moves_to_another_stack_and_nothing_is_made_anew(federation: Federation) -> None:
    federation.declare("hall", "attic")
    assert federation.deploy(*UP)[0] == 0
    project = federation.project
    project.engine.prepare("second")
    project.succeeds("state", "move", "--yes", "--source", "dev", "--dest", "second", SITE.format("hall"))
    settings = {"probe:place": str(federation.place)}
    for stack, site in (("dev", "attic"), ("second", "hall")):
        program = (project.directory / "__main__.py").read_text()
        project.write(program, {**settings, "probe:sites": [site]}, stack=stack)
        project.succeeds("preview", "--stack", stack, "--expect-no-changes")


def test_what_is_protected_stays_in_the_first_destruction_and_goes_when_it_is_allowed(federation: Federation) -> None:
    federation.declare("hall", "attic")
    program = (federation.project.directory / "__main__.py").read_text()
    cluster = 'Thing(f"{name}-cluster", {"place": place}, pulumi.ResourceOptions(parent=self, protect=True))'
    federation.project.write(program.replace("        Squids(", f"        {cluster}\n        Squids("))
    (federation.place / "hall-cluster.let").touch()
    (federation.place / "attic-cluster.let").touch()
    assert federation.deploy(*UP)[0] == 0
    status, output = federation.deploy("destroy", "--stack", "dev", "--yes", "--site", "hall")
    assert status != 0
    urn = re.search(r"pulumi state unprotect '(urn:[^']+)'", output)
    assert urn is not None
    assert urn[1].endswith("::hall-cluster")
    assert federation.made() == {"hall-cluster", "attic", "attic-cluster"}
    federation.project.succeeds("state", "unprotect", "--yes", "--stack", "dev", urn[1])
    assert federation.deploy("destroy", "--stack", "dev", "--yes", "--site", "hall")[0] == 0
    assert federation.made() == {"attic", "attic-cluster"}


def test_a_state_moves_to_another_backend_and_shows_no_change(project: Project, tmp_path: Path) -> None:
    project.write("import pulumi\npulumi.export('password', pulumi.Config().require_secret('password'))\n")
    file = project.directory / "Pulumi.moved.yaml"

    def pulumi(place: str, *words: str) -> str:
        (tmp_path / place).mkdir(exist_ok=True)
        kept: Mapping[str, str] = {
            name: value for name, value in project.environment().items() if not name.startswith("PULUMI_CONFIG_")
        }
        own = {"PULUMI_BACKEND_URL": f"file://{tmp_path / place}", "PULUMI_CONFIG_PASSPHRASE": "one for both"}
        done = subprocess.run(
            [project.engine.program, *words, "--non-interactive"],
            cwd=project.directory,
            env={**kept, **own, "PULUMI_STACK": "moved"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    pulumi("old", "stack", "init", "moved", "--secrets-provider", "passphrase")
    pulumi("old", "config", "set", "--secret", "password", "hush-hush", "--stack", "moved")
    pulumi("old", "up", "--yes", "--skip-preview", "--stack", "moved")
    committed = file.read_text()
    exported = tmp_path / "state.json"
    pulumi("old", "stack", "export", "--stack", "moved", "--file", str(exported))
    assert "hush" not in exported.read_text()
    pulumi("new", "stack", "init", "moved", "--secrets-provider", "passphrase")
    file.write_text(committed)
    pulumi("new", "stack", "import", "--stack", "moved", "--file", str(exported))
    pulumi("new", "preview", "--stack", "moved", "--expect-no-changes")
    outputs = pulumi("new", "stack", "output", "--json", "--show-secrets", "--stack", "moved")
    assert json.loads(outputs) == {"password": "hush-hush"}
    pulumi("old", "stack", "rm", "moved", "--yes", "--force", "--preserve-config")
    assert file.exists()
