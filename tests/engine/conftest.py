"""The real engine, and a project to be thrown away for it."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import tools
from local.engine import Engine
from local.progress import Progress
from local.tools import PROVIDER
from tests.clouds import schema
from tests.clouds.provider import Cloud, Kubernetes, StandIn, served
from tests.engine.projects import RUNTIME, Project
from tests.engine.stacks import Sites, Stack


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


@pytest.fixture(scope="session")
def standins(binaries: Path) -> Iterator[dict[str, StandIn]]:
    program = tools.pulumi_home() / "plugins" / f"resource-kubernetes-v{tools.pins()[PROVIDER]}" / PROVIDER
    kubernetes = Kubernetes(program)
    with kubernetes.running:
        yield {**{package: Cloud(package) for package in schema.SDKS}, "kubernetes": kubernetes}


@pytest.fixture
def world(project: Project, standins: dict[str, StandIn], monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack whose clouds and clusters are stand-ins."""
    for standin in standins.values():
        standin.refused = ()
        if isinstance(standin, Cloud):
            standin.credential = "first"
            standin.withheld = ()
    with served(standins) as places:
        monkeypatch.setenv("PULUMI_DEBUG_PROVIDERS", places)
        yield Stack(project=project)


@pytest.fixture
def api() -> Iterator[int]:
    """A port of this machine where somebody listens, as an API server would."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def site(tmp_path: Path, api: int) -> Sites:
    """Makes what a stack says of a site on a cluster that is there, and its kubeconfig."""

    def make(name: str, *, port: int = api, credential: str = "first", **more: Any) -> dict[str, Any]:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "clusters": [{"name": name, "cluster": {"server": f"https://127.0.0.1:{port}"}}],
            "users": [{"name": name, "user": {"token": credential}}],
        }
        (tmp_path / name).write_text(json.dumps(config))
        own = {"name": name, "kind": "existing", "kubeconfig": str(tmp_path / name), "atlasSite": name, "pools": []}
        return {**own, **more}

    return make
