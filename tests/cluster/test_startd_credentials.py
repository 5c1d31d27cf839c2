"""A startd of the real pool that has a VOMS proxy and nothing else, while that is renewed and the old one ends.

What takes days in a site takes minutes here: a proxy lasts one, and HTCondor, which by default remembers for a day whom
it has believed, does so for some seconds. Then the startd's connections to the collector are cut, so that it must prove
itself anew. Beside it is one whose proxy was not renewed.
"""

import json
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from local import certificates
from local.pool.condor import PORT, STARTD
from tests.cluster.proxies import Voms
from tests.cluster.stage import HELD, Job, Json, Stage, Startds

pytestmark = pytest.mark.cluster

LONG, SHORT = timedelta(hours=1), timedelta(minutes=1)
# Longer than all of this takes.
PATIENCE = {"NOCLAIM_SECONDS": "1800"}
DEFAULTS = "/etc/atlas-sites-defaults/startd.conf"
REMEMBERED = timedelta(seconds=10)
FORGETS = f"SEC_DEFAULT_SESSION_DURATION = {REMEMBERED.seconds}\nUPDATE_INTERVAL = 10\nCCB_RECONNECT_TIME = 5\n"
# By which claims reach the startd: the second time after its connections were cut.
REGISTERED = "registered with CCB server"
# Of the startd's own log: it has shown the collector a proxy that the collector does not believe.
REFUSED = "Failed to authenticate using SSL"
DISCONNECTED = 22


@dataclass(frozen=True)
class Holder:
    """A startd with a Secret of its own."""

    startds: Startds

    @property
    def stage(self) -> Stage:
        return self.startds.stage

    @property
    def copy(self) -> Path:
        return self.startds.inside(1) / "scratch/credentials/proxy"

    def renew(self, proxy: str) -> None:
        """Puts another proxy into the Secret, and waits until the startd has it."""
        data = {"proxy": b64encode(proxy.encode()).decode()}
        self.stage.kubectl("patch", "secret", self.startds.name, "--type=merge", "-p", json.dumps({"data": data}))
        # The kubelet looks after a pod each minute or two, and at once after one that changes.
        self.stage.kubectl("annotate", "pod", self.startds.pod_name(1), "--overwrite", f"tests/renewed={time.time()}")
        self.stage.eventually(lambda: self.copy.read_text() == proxy, f"{self.startds.name} has its new proxy")

    def cut(self, address: str) -> None:
        """Ends its connections to the collector, as a gateway does that has forgotten them."""
        space = ["nsenter", f"--target={self.startds.reporter_pid(1)}", "--net"]
        select = ["dst", address, "dport", "=", str(PORT)]
        done = subprocess.run([*space, "ss", "-HKt", *select], capture_output=True, text=True, timeout=30, check=False)
        assert done.stdout, done.stderr

    def heard(self) -> float:
        """When the collector last believed it."""
        name = self.startds.pod_name(1)
        shows = ("-slot", "-constraint", f'PodName == "{name}" && SlotType == "Partitionable"')
        said = self.stage.in_pool("condor_status", *shows, "-af", "LastHeardFrom", "AuthenticatedIdentity")
        last, identity = said.split()
        assert identity == STARTD
        return float(last)


@dataclass(frozen=True, kw_only=True)
class Renewal:
    """The two startds after the short proxies' end, and what both have run."""

    renewed: Holder
    left: Holder
    cut: float
    held: Job
    other: Job


def change(template: Json, name: str) -> None:
    """Its credentials are in a Secret of its own, and HTCondor forgets soon."""
    pod = template["spec"]
    for volume in pod["volumes"]:
        if volume["name"] == "credentials":
            volume["secret"]["secretName"] = name
    pod["volumes"].append({"name": "configuration", "configMap": {"name": name}})
    pod["containers"][0]["volumeMounts"].append(
        {"name": "configuration", "mountPath": DEFAULTS, "subPath": "startd.conf", "readOnly": True}
    )


def holder(stage: Stage, name: str, proxy: str) -> Holder:
    full = f"{name}-{stage.run}"
    authority = certificates.authority_file().read_text()
    texts = {"proxy": proxy, "ca.pem": authority}
    configuration = stage.in_pool("cat", DEFAULTS) + FORGETS  # of the same image
    items = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": full},
            "data": {key: b64encode(text.encode()).decode() for key, text in texts.items()},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": full},
            "data": {"startd.conf": configuration},
        },
    ]
    stage.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    startds = stage.startds(name, env=PATIENCE, change=lambda each: change(each, full), fizzleSeconds=2000)
    return Holder(startds)


@pytest.fixture(scope="module")
def voms(tmp_path_factory: pytest.TempPathFactory) -> Voms:
    return Voms(tmp_path_factory.mktemp("proxies"))


@pytest.fixture(scope="module")
def renewal(stage: Stage, voms: Voms) -> Iterator[Renewal]:
    """Both join, both proxies are renewed by short ones, and one of these once more."""
    renewed, left = (holder(stage, name, voms.proxy(LONG)) for name in ("renewed", "left"))
    try:
        held = renewed.startds.submit(HELD)
        held.runs()
        left.startds.known(1)
        short = voms.proxy(SHORT)
        for each in (renewed, left):
            each.renew(short)
        renewed.renew(voms.proxy(LONG))
        end = x509.load_pem_x509_certificates(short.encode())[0].not_valid_after_utc + REMEMBERED
        stage.eventually(lambda: datetime.now(UTC) > end, "the short proxies have ended")
        address = stage.cluster.kubectl("-n", "pool", "get", "service", "cm", "-o", "jsonpath={.spec.clusterIP}")
        cut = time.time()
        for each in (renewed, left):
            each.cut(address)
        stage.eventually(lambda: renewed.heard() > cut + 1, "the collector hears from the renewed startd again")
        log = renewed.startds.inside(1) / "scratch/log/SharedPortLog"
        stage.eventually(lambda: log.read_text().count(REGISTERED) > 1, "claims can reach the renewed startd again")
        renewed.startds.let_go(1)
        held.ends()
        other = renewed.startds.submit("sleep 1")
        other.ends()
        yield Renewal(renewed=renewed, left=left, cut=cut, held=held, other=other)
    finally:
        stage.kubectl("delete", "secret,configmap", *(each.startds.name for each in (renewed, left)), check=False)


def test_a_startd_whose_proxy_is_renewed_keeps_its_job_and_takes_another_after_the_old_ones_end(
    renewal: Renewal,
) -> None:
    startds, held, other = renewal.renewed.startds, renewal.held, renewal.other
    assert (held.ends(), held.starts, held.host()) == (0, 1, startds.pod_name(1))
    assert DISCONNECTED not in [event for event, _ in held.events]
    assert (other.ends(), other.starts, other.host()) == (0, 1, startds.pod_name(1))
    startds.leave(1)
    startds.outcome(1)
    told = startds.last_word(1)
    assert (told["claims"], told["jobsOk"]) == (2, 2)


def test_its_copy_of_the_proxy_is_private(renewal: Renewal) -> None:
    found = renewal.left.copy.stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, 1000)


def test_a_startd_whose_proxy_is_not_renewed_is_believed_no_more(renewal: Renewal) -> None:
    log = renewal.left.startds.inside(1) / "scratch/log/StartLog"
    renewal.left.stage.eventually(lambda: REFUSED in log.read_text(), "the pool refuses the startd's old proxy")
    assert renewal.left.heard() <= renewal.cut
