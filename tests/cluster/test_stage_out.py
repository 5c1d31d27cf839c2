"""A payload of the real pool brings a file out, under the policies of the site, to Azurite beyond it."""

import json
import os
import signal
from base64 import b64encode
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from components import stageout
from components.stageout import StageOut, StageOutArgs
from tests.cluster.cluster import Cluster
from tests.cluster.network import run
from tests.cluster.stage import SITE, Stage
from tests.program.monitor import deploy
from tests.storage import azurite
from tests.storage.azurite import Azurite

pytestmark = pytest.mark.cluster

# A public one, of those that are for documentation: startds reach no other.
ADDRESS = "203.0.113.7"
DEVICE = "storage0"
SECRET = "stage-out-test"
CONTENT = "".join(f"{number}\n" for number in range(1, 3_000_001)).encode()
# The first time so slowly that a test can be in the midst of it.
SCRIPT = """
seq 3000000 > hits
echo {authority} | base64 -d > ca.pem
export SSL_CERT_FILE=$PWD/ca.pem
grep -q '^NumShadowStarts = 1$' "$_CONDOR_JOB_AD" && export RCLONE_BWLIMIT=2M && touch /tmp/begun
exec "$STAGE_OUT" {directory} hits
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    directory = tmp_path_factory.mktemp("azurite")
    program = azurite.ensure(directory / "npm.log")
    run("ip", "link", "add", DEVICE, "type", "bridge")
    try:
        run("ip", "address", "add", f"{ADDRESS}/32", "dev", DEVICE)
        run("ip", "link", "set", DEVICE, "up")
        running = Azurite(program, directory, address=ADDRESS)
        yield running
        running.stop()
    finally:
        run("ip", "link", "delete", DEVICE)


@pytest.fixture(scope="module")
def offered(site: Cluster, storage: Azurite) -> Iterator[list[dict[str, Any]]]:
    """What the component declares, in the site: the sources of a volume."""
    args = StageOutArgs(site=SITE, namespace=SITE, container=storage.url, secret=SECRET)
    made: list[StageOut] = []
    monitor = deploy(lambda: made.append(StageOut("test", args)))
    place = {"apiVersion": "v1", "kind": "ConfigMap", **monitor.one("kubernetes:core/v1:ConfigMap").inputs}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": SITE},
        "stringData": {stageout.SAS: storage.sas()},
    }
    both = json.dumps({"apiVersion": "v1", "kind": "List", "items": [place, secret]})
    site.kubectl("apply", "-f", "-", stdin=both)
    _, sas = made[0].sources
    yield [{"configMap": {"name": stageout.NAME}}, sas]
    site.kubectl("delete", "-f", "-", stdin=both)


def offering(template: dict[str, Any], sources: list[dict[str, Any]]) -> None:
    """Mounts into the pod of a startd what is offered."""
    pod = template["spec"]
    pod["volumes"].append({"name": stageout.NAME, "projected": {"sources": sources}})
    startd = pod["containers"][0]
    mount = {"name": stageout.NAME, "mountPath": "/etc/atlas-sites/stage-out", "readOnly": True}
    startd["volumeMounts"].append(mount)
    startd["resources"]["limits"]["memory"] = "320Mi"


def test_a_payload_whose_startd_is_lost_amid_its_file_brings_it_out_from_another_one(
    stage: Stage, storage: Azurite, offered: list[dict[str, Any]]
) -> None:
    startds = stage.startds("out", pods=2, change=lambda template: offering(template, offered))
    name = f"mc/{stage.run}/hits"
    script = SCRIPT.format(authority=b64encode(storage.authority.read_bytes()).decode(), directory=f"mc/{stage.run}")
    wanted = f'SiteName == "{startds.name}" && HasStageOut'
    # Else the pool waits for forty minutes whether the startd comes back.
    job = stage.submit(wanted, script, "job_lease_duration = 20")
    job.runs()
    stage.eventually(lambda: name in storage.names(uncommitted=True), "some of the file has arrived")
    assert name not in storage.names()
    first = next(number for number in (1, 2) if Path(startds.inside(number) / "tmp/begun").exists())
    os.kill(startds.reporter_pid(first), signal.SIGKILL)
    assert job.ends() == 0
    assert job.starts == 2
    told = json.loads(job.output())
    blob = storage.blob(name)
    assert blob.content == CONTENT
    digest = md5(CONTENT, usedforsecurity=False).hexdigest()
    assert (told["md5"], told["bytes"], blob.md5) == (digest, len(CONTENT), digest)
    assert told["url"] == f"{storage.url}/{name}"


def test_a_startd_that_the_site_tells_of_no_container_does_not_say_that_files_can_go_out(stage: Stage) -> None:
    startds = stage.startds("in")
    startds.known(1)
    asked = ("condor_status", "-slot", "-constraint", f'SiteName == "{startds.name}"', "-af", "HasStageOut")
    assert set(stage.in_pool(*asked).split()) == {"false"}
    job = startds.submit('"$STAGE_OUT" mc/none job.sh')
    assert job.ends() == 2
