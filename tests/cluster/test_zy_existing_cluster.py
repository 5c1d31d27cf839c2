"""The dev site on a cluster that somebody else runs, from a registry; then nothing of it is left there.

The somebody else is this machine's node, which is started apart from the site. Next to last of the cluster's tests: the
site of those before is taken down here.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from local import node as machine, tools
from local.paths import CHECKOUT, state_dir
from local.progress import Progress
from tests.cluster.cluster import Cluster
from tests.cluster.conftest import UP_SECONDS
from tests.cluster.stage import GO, HELD, REQUESTED, Job, Stage, inside
from tests.engine.test_registry import running

pytestmark = pytest.mark.cluster

CLUSTER_WIDE = "persistentvolumes,priorityclasses,customresourcedefinitions"


def objects(cluster: Cluster) -> set[str]:
    """All namespaces and cluster-wide objects that a site may make, and what is in the default namespace."""
    named = cluster.kubectl("get", f"namespaces,{CLUSTER_WIDE}", "-o", "name").split()
    return {
        *named,
        *cluster.kubectl("get", "secrets,configmaps,roles,rolebindings", "-n", "default", "-o", "name").split(),
    }


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = tools.ensure(Progress(total=1), ["registry"]) / "registry"
    with running(program, tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def somebody_elses() -> Iterator[Cluster]:
    """A cluster without a site."""
    subprocess.run(["make", "down"], cwd=CHECKOUT, check=True, capture_output=True, timeout=UP_SECONDS)
    assert not state_dir().exists()
    progress = Progress(total=1)
    machine.start(progress, tools.ensure(progress, machine.TOOLS))
    yield Cluster(machine.KUBECONFIG)
    machine.stop()


@contextmanager
def busy(cluster: Cluster) -> Iterator[tuple[Job, Stage]]:
    """A job that runs on one of the site's startds, and who listens to what becomes of both."""
    stage = Stage(cluster=cluster)
    stage.open()
    try:
        job = stage.submit('SiteName == "dev"', HELD)
        job.runs()
        yield job, stage
    finally:
        stage.close()


def told_to_go(stage: Stage) -> set[str]:
    """Startds that were told to go while they ran."""
    return {
        name
        for name, versions in list(stage.pods.said.items())
        for pod in versions
        if pod["status"]["phase"] == "Running" and pod["metadata"].get("annotations", {}).get(REQUESTED) == "drain"
    }


def test_the_site_comes_up_on_an_existing_cluster_and_goes_without_a_trace(
    somebody_elses: Cluster, registry: str, tmp_path: Path
) -> None:
    before = objects(somebody_elses)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", *words], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=UP_SECONDS,
            check=False,
        )  # fmt: skip

    def make(*words: str) -> None:
        done = run(*words)
        assert done.returncode == 0, f"make {' '.join(words)}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"

    where = (f"KUBECONFIG={somebody_elses.kubeconfig}", "CONTEXT=atlas-local", f"PUSH={registry}/atlas")
    (tmp_path / "wrong.pem").write_text("wrong")
    wrong = (f"--from-file=hostcert={tmp_path}/wrong.pem", f"--from-file=hostkey={tmp_path}/wrong.pem")
    somebody_elses.kubectl("create", "secret", "generic", "atlas-cert", *wrong)
    refused = run("up", *where)
    assert refused.returncode != 0
    assert "Secret atlas-cert of namespace default: hostcert: a certificate in PEM form is needed" in refused.stderr
    assert "Traceback" not in refused.stderr
    somebody_elses.kubectl("delete", "secret", "atlas-cert")
    make("up", *where)
    pods = json.loads(somebody_elses.kubectl("get", "pods", "-n", "dev", "-o", "json"))["items"]
    images = {container["image"] for pod in pods for container in pod["spec"]["containers"]}
    assert images
    assert all(image.startswith(f"{registry}/atlas/") and "@sha256:" in image for image in images)
    with busy(somebody_elses) as (job, stage), ThreadPoolExecutor() as somebody:
        down = somebody.submit(make, "down")

        def over() -> bool:
            # The job ends no sooner than its startd was told to go, and then has the time that it needs.
            for name in told_to_go(stage):
                with suppress(LookupError, OSError):
                    (inside(name) / GO).touch()
            return job.ended or down.done()

        stage.eventually(over, "the job ends, whose startd is told to go")
        down.result()
    assert told_to_go(stage)
    assert (job.ends(), job.starts) == (0, 1)
    assert objects(somebody_elses) == before
    assert machine.running()
