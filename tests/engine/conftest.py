"""The real engine, and a project to be thrown away for it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from local import tools
from local.engine import Engine
from local.progress import Progress
from tests.engine.projects import RUNTIME, Project


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The engine's directory; what this machine lacks is built now."""
    return tools.ensure(Progress(total=0), ("pulumi",))


@pytest.fixture
def project(binaries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with a stack dev; the engine's state is kept for it alone, in a directory with a space in its name."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of its own"))
    for name in [name for name in os.environ if name.startswith("PULUMI_")]:
        monkeypatch.delenv(name)
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "probe", "runtime": RUNTIME}))
    made = Project(engine=Engine(binaries, project=directory))
    made.engine.prepare("dev")
    yield made
    assert made.left_over() == []
