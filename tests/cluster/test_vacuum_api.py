"""The controller as a process of this machine against the real API server, with the rights that a site gives it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from components.vacuum import rules
from local.paths import CHECKOUT
from tests.cluster import toolbox

pytestmark = pytest.mark.cluster

NAMESPACE = "t-vacuum-api"
CRD = CHECKOUT / "components" / "startdset_crd.yaml"
CRD_NAME = "startdsets.vacuum.atlas-sites.io"
WAIT_SECONDS = 180.0
RULES = [{"apiGroups": r.api_groups, "resources": r.resources, "verbs": r.verbs} for r in rules()]


class Cluster(Protocol):
    """What the fixture `node` provides."""

    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str: ...


def eventually(condition: Callable[[], Any], what: str) -> None:
    """Waits for what takes its time; the bound only keeps a failure from lasting for ever."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {WAIT_SECONDS:.0f} s: {what}")
        time.sleep(0.3)


@dataclass
class Site:
    """A namespace, what is in it, and the controller for it."""

    cluster: Cluster
    image: str
    kubeconfig: Path
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    made: list[str] = field(default_factory=list)

    def start(self) -> None:
        with socket.socket() as free, self.log.open("ab") as log:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.vacuum", "--kubeconfig", self.kubeconfig],
                cwd=CHECKOUT,
                env={**os.environ, "PORT": str(port)},
                stdout=log,
                stderr=log,
            )

    def stop(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=30)
            self.process = None

    def get(self, *words: str) -> Any:
        return json.loads(self.cluster.kubectl("get", "-n", NAMESPACE, "-o", "json", *words))

    def pods(self) -> list[dict[str, Any]]:
        return list(self.get("pods")["items"])

    def status(self) -> dict[str, Any]:
        return dict(self.get("startdset", "startds").get("status", {}))

    def spec(self, script: str, **more: Any) -> dict[str, Any]:
        return {
            "limits": {"pods": 3, "cores": 8, "memoryMib": 1024},
            "window": {"initial": 3},
            "backoff": {"baseSeconds": 3600, "capSeconds": 3600},
            "fizzleSeconds": 3600,
            "startSeconds": 120,
            "drain": {"seconds": 5},
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [
                        {
                            "name": "startd",
                            "image": self.image,
                            "imagePullPolicy": "Never",
                            "command": ["/busybox", "sh", "-c", script],
                            "resources": {
                                "limits": {"cpu": "1", "memory": "32Mi"},
                                "requests": {"cpu": "10m", "memory": "16Mi"},
                            },
                        }
                    ],
                }
            },
            **more,
        }

    def apply(self, spec: dict[str, Any]) -> None:
        meta = {"name": "startds", "namespace": NAMESPACE}
        body = {"apiVersion": "vacuum.atlas-sites.io/v1alpha1", "kind": "StartdSet", "metadata": meta, "spec": spec}
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def delete(self) -> None:
        self.cluster.kubectl("delete", "startdset", "startds", "-n", NAMESPACE, f"--timeout={WAIT_SECONDS:.0f}s")


@pytest.fixture(scope="module")
def crd(node: Cluster) -> Iterator[None]:
    """The CRD: a site's, or else ours for the time being."""
    there = "NotFound" not in node.kubectl("get", "crd", CRD_NAME, check=False)
    if not there:
        node.kubectl("apply", "-f", str(CRD))
    node.kubectl("wait", "--for=condition=Established", f"crd/{CRD_NAME}", "--timeout=60s")
    yield
    if not there:
        node.kubectl("delete", "crd", CRD_NAME, "--timeout=60s")


@pytest.fixture(scope="module")
def image(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    return toolbox.bring_in(tmp_path_factory.mktemp("toolbox"))


@pytest.fixture
def place(node: Cluster, crd: None, image: str, tmp_path: Path) -> Iterator[Site]:
    """A namespace with an account that may do what the controller of a site may, and no more."""
    node.kubectl("create", "namespace", NAMESPACE)
    node.kubectl("wait", "--for=create", "serviceaccount/default", "-n", NAMESPACE, "--timeout=60s")
    rights = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "vacuum"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "vacuum"},
            "rules": RULES,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "vacuum"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "vacuum"},
            "subjects": [{"kind": "ServiceAccount", "name": "vacuum", "namespace": NAMESPACE}],
        },
    ]
    everything = {"apiVersion": "v1", "kind": "List", "items": rights}
    node.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(everything))
    admin = json.loads(node.kubectl("config", "view", "--raw", "-o", "json", "--minify"))
    context = {"cluster": admin["clusters"][0]["name"], "user": "vacuum", "namespace": NAMESPACE}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(
        json.dumps(
            {
                "clusters": admin["clusters"],
                "users": [
                    {
                        "name": "vacuum",
                        "user": {"token": node.kubectl("create", "token", "vacuum", "-n", NAMESPACE).strip()},
                    }
                ],
                "contexts": [{"name": "vacuum", "context": context}],
                "current-context": "vacuum",
            }
        )
    )
    place = Site(cluster=node, image=image, kubeconfig=kubeconfig, log=tmp_path / "log")
    yield place
    place.stop(signal.SIGKILL)
    for kind in ("pods", "startdsets"):  # a test that failed may have left what only the controller lets go
        for item in place.get(kind)["items"]:
            name = item["metadata"]["name"]
            patch = '{"metadata":{"finalizers":null}}'
            node.kubectl("patch", kind, name, "-n", NAMESPACE, "--type=merge", "-p", patch, check=False)
    node.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")


STAYS = "trap 'exit 0' TERM; while :; do /busybox sleep 1; done"
WORKS = (
    """printf '200 worked\\n{"code":200,"reason":"Worked","jobsStarted":1}' > /dev/termination-log; /busybox sleep 1"""
)
FINDS_NOTHING = "printf '300 no work' > /dev/termination-log; exit 3"


def test_kubectl_explains_the_spec(node: Cluster, crd: None) -> None:
    def text() -> str:
        return node.kubectl("explain", "startdset.spec", "--recursive", check=False)

    # The API server publishes the schema of a new kind a moment after it serves it.
    eventually(lambda: "FIELDS" in text(), "the schema is published")
    for word in ("template", "limits", "window", "backoff", "fizzleSeconds", "startSeconds", "drain", "memoryMib"):
        assert f"  {word}" in text()


NONSENSE = {
    "a startd counts as proof before it would leave": (
        {"fizzleSeconds": 600},
        "raise fizzleSeconds or lower NOCLAIM_SECONDS",
    ),
    "back-off that begins above its cap": (
        {"backoff": {"baseSeconds": 900, "capSeconds": 60}},
        "lower backoff.baseSeconds or raise backoff.capSeconds",
    ),
    "a window that begins above its maximum": (
        {"window": {"initial": 100}},
        "lower window.initial or raise window.maximum",
    ),
    "no limit of pods": ({"limits": {}}, "spec.limits.pods: Required value"),
    "startds of unknown size": (
        {"limits": {"pods": 1, "memoryMib": 100}},
        "set resources.limits.memory of the container startd",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), NONSENSE.values(), ids=NONSENSE.keys())
def test_a_nonsensical_spec_is_refused_with_the_remedy(
    node: Cluster, crd: None, change: dict[str, Any], sentence: str
) -> None:
    startd = {
        "name": "startd",
        "image": "x",
        "env": [{"name": "OTHER", "value": "x"}, {"name": "NOCLAIM_SECONDS", "value": "600"}],
    }
    spec = {
        "limits": {"pods": 1},
        "template": {"spec": {"restartPolicy": "Never", "containers": [startd]}},
    }
    body = {"apiVersion": "vacuum.atlas-sites.io/v1alpha1", "kind": "StartdSet", "metadata": {"name": "x"}}

    def apply(spec: dict[str, Any]) -> str:
        text = json.dumps({**body, "spec": spec})
        return node.kubectl("apply", "--dry-run=server", "-n", "default", "-f", "-", stdin=text, check=False)

    assert "created (server dry run)" in apply(spec)
    assert sentence in apply({**spec, **change})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"restartPolicy": "Always"}, "restartPolicy must be Never"),
        ({"containers": [{"name": "main", "image": "x"}]}, "give this name to the one that runs HTCondor"),
    ],
)
def test_a_template_that_hides_the_end_of_a_startd_is_refused(
    node: Cluster, crd: None, change: dict[str, Any], sentence: str
) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "startd", "image": "x"}], **change}
    spec = {"limits": {"pods": 1}, "template": {"spec": pod}}
    body = {"apiVersion": "vacuum.atlas-sites.io/v1alpha1", "kind": "StartdSet", "metadata": {"name": "x"}}
    text = json.dumps({**body, "spec": spec})
    refusal = node.kubectl("apply", "--dry-run=server", "-n", "default", "-f", "-", stdin=text, check=False)
    assert sentence in refusal


def test_a_set_grows_to_its_limit_and_drains_before_it_goes(place: Site) -> None:
    place.start()
    place.apply(place.spec(STAYS))
    eventually(lambda: place.status().get("startds", {}).get("running") == 3, "three startds run")
    assert place.status()["state"] == "Steady"
    assert len(place.pods()) == 3
    row = place.cluster.kubectl("get", "startdset", "-n", NAMESPACE)
    assert row.split()[:7] == ["NAME", "STATE", "RUNNING", "UNPROVEN", "LIMIT", "BACKOFF-UNTIL", "LAST"]
    place.delete()
    assert place.pods() == []
    assert "Draining" in place.log.read_text()


def test_stopping_the_controller_touches_no_startd(place: Site) -> None:
    place.start()
    place.apply(place.spec(STAYS))
    eventually(lambda: place.status().get("startds", {}).get("running") == 3, "three startds run")
    before = {pod["metadata"]["uid"] for pod in place.pods()}
    place.stop(signal.SIGTERM)
    after = [pod["metadata"] for pod in place.pods()]
    assert {meta["uid"] for meta in after} == before
    assert not any("deletionTimestamp" in meta for meta in after)
    place.start()
    place.delete()


def test_each_outcome_is_counted_once_though_the_controller_is_killed(place: Site) -> None:
    place.apply(place.spec(WORKS))
    for pause in (2.0, 2.6, 3.1, 2.3, 3.7):
        place.start()
        time.sleep(pause)
        place.stop(signal.SIGKILL)
    place.start()
    place.apply(place.spec(WORKS, limits={"pods": 0}))
    eventually(lambda: place.pods() == [] and place.status().get("state") == "Steady", "all startds are gone")
    status = place.status()
    scheduled = {
        event["involvedObject"]["uid"]
        for event in place.get("events")["items"]
        if event["reason"] == "Scheduled" and event["involvedObject"]["kind"] == "Pod"
    }
    assert len(scheduled) > 3
    assert status["outcomes"] == {"Worked": len(scheduled)}
    place.delete()


def test_a_set_backs_off_without_work_and_tries_again_when_it_is_told_to(place: Site) -> None:
    place.start()
    place.apply(place.spec(FINDS_NOTHING))
    eventually(lambda: place.status().get("state") == "BackingOff" and place.pods() == [], "it backs off")
    status = place.status()
    assert set(status["outcomes"]) == {"NoWork"}
    assert status["circuit"]["level"] == 1
    explained = subprocess.run(
        [sys.executable, "-m", "services.vacuum", "--kubeconfig", place.kubeconfig, "explain"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "startds found no work; the next tries at" in explained
    annotation = "vacuum.atlas-sites.io/retry-now=yes"
    place.cluster.kubectl("annotate", "startdset", "startds", "-n", NAMESPACE, annotation)
    one_more = sum(status["outcomes"].values()) + 1
    eventually(lambda: sum(place.status()["outcomes"].values()) == one_more, "the probe was made and counted")
    eventually(lambda: place.status()["state"] == "BackingOff", "it backs off again")
    assert "vacuum.atlas-sites.io/retry-now" not in place.get("startdset", "startds")["metadata"].get("annotations", {})
    place.delete()


def test_a_set_whose_controller_is_gone_for_good_goes_as_the_runbook_says(place: Site) -> None:
    place.start()
    place.apply(place.spec(STAYS))
    eventually(lambda: place.status().get("startds", {}).get("running") == 3, "three startds run")
    place.stop(signal.SIGKILL)
    place.cluster.kubectl("delete", "startdset", "startds", "-n", NAMESPACE, "--wait=false")
    assert "deletionTimestamp" in place.get("startdset", "startds")["metadata"]
    text = (CHECKOUT / "docs/runbooks/remove-a-startdset.md").read_text()
    for command in text.split("```")[1].strip().replace("SITE", NAMESPACE).splitlines():
        environment = {**os.environ, "KUBECONFIG": str(place.cluster.kubeconfig)}
        subprocess.run(["sh", "-c", command], env=environment, capture_output=True, timeout=60, check=True)
    eventually(lambda: place.get("startdsets")["items"] == [] and place.pods() == [], "nothing of the set is left")
