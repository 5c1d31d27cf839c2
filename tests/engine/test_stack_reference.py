"""examples/monitoring: a stack that reads the outputs of another one."""

import json
from pathlib import Path

import pytest
import yaml

from local.engine import Engine
from local.paths import CHECKOUT
from tests.engine.projects import RUNTIME, Project

pytestmark = pytest.mark.engine

EXAMPLES = CHECKOUT / "examples"
PRODUCER = """\
import json, pathlib, pulumi

outputs = json.loads(pathlib.Path("outputs.json").read_text())
for site in outputs["sites"].values():
    site["cluster"]["kubeconfig"] = pulumi.Output.secret("hush-hush")
for name, value in outputs.items():
    pulumi.export(name, value)
"""


@pytest.fixture
def consumer(project: Project, tmp_path: Path) -> Project:
    """The example, beside a stack with the recorded outputs."""
    (project.directory / "outputs.json").write_text((EXAMPLES / "outputs.json").read_text())
    project.write(PRODUCER)
    project.succeeds("up", "--yes", "--skip-preview")
    directory = tmp_path / "monitoring"
    directory.mkdir()
    own = yaml.safe_load((EXAMPLES / "monitoring/Pulumi.yaml").read_text())
    (directory / "Pulumi.yaml").write_text(yaml.safe_dump({**own, "runtime": RUNTIME}))
    made = Project(engine=Engine(project.engine.binaries, project=directory), mark=project.mark)
    made.engine.prepare("watch")
    made.write(
        (EXAMPLES / "monitoring/__main__.py").read_text(), {"monitoring:sites": "organization/probe/dev"}, stack="watch"
    )
    return made


def test_another_stack_reads_the_outputs_and_their_secrets_stay_secret(consumer: Project) -> None:
    assert "hush" not in consumer.succeeds("up", "--yes", "--skip-preview", "--stack", "watch")
    outputs = json.loads(consumer.succeeds("stack", "output", "--json", "--stack", "watch"))
    assert outputs["version"] == 1
    assert outputs["cores"] == 2240
    assert outputs["targets"][0] == {
        "targets": [f"{service}.hall.svc.cluster.local:8080" for service in ("credentials", "nodehealth", "vacuum")],
        "labels": {"site": "hall", "atlas_site": "EXAMPLE-HALL", "kind": "existing"},
    }
    assert "hush" not in consumer.succeeds("stack", "export", "--stack", "watch")


def test_outputs_of_another_version_are_refused(project: Project, consumer: Project) -> None:
    project.write("import pulumi\npulumi.export('schemaVersion', 2)\npulumi.export('sites', {})\n")
    project.succeeds("up", "--yes", "--skip-preview")
    status, output = consumer.pulumi("preview", "--stack", "watch")
    assert status != 0
    assert "outputs of version 2; this program reads 1" in output
