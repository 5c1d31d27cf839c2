"""The real thing: a Kubernetes node on this machine, and on it the dev site, brought up as a new user would."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.paths import CHECKOUT
from local.target import Target
from tests.cluster import toolbox
from tests.cluster.cluster import BOUND, KUBECTL_SECONDS, Cluster
from tests.cluster.controller import CRD, CRD_NAME, NAMESPACE, RULES, Site
from tests.cluster.stage import Stage, opened

UP_SECONDS = 3600  # cold: everything is downloaded and built


@dataclass(frozen=True)
class Interrupted:
    """What a `make up` that was stopped by Ctrl-C in one of its steps said and returned."""

    step: str
    exit_code: int
    said: str


def git_status() -> str:
    """Every file of the checkout that differs from the last commit, with a hash of what differs, or is not in it."""
    words = ("git status --porcelain --untracked-files=all", "git diff HEAD | sha256sum")
    return "".join(
        subprocess.run(
            ["bash", "-c", word], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=KUBECTL_SECONDS
        ).stdout
        for word in words
    )


def interrupt_in(step: str) -> Interrupted | None:
    """Runs `up` and presses Ctrl-C as soon as it enters the step; none if it was through before that could happen."""
    said: list[str] = []
    pressed = False
    with subprocess.Popen(
        [sys.executable, "-m", "local", "up"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if f"] {step}: " in line and "done in" not in line and not pressed:
                os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
                pressed = True
        exit_code = process.wait(timeout=UP_SECONDS)
    return Interrupted(step, exit_code, "".join(said)) if pressed else None


STEPS = ("tools", "images", "cluster", "transport", "pool", "certificate", "site", "startds")


@pytest.fixture(scope="session")
def checkout_before() -> str:
    """What git says of the checkout before anything is brought up."""
    return git_status()


@pytest.fixture(scope="session")
def interrupted_ups(checkout_before: str) -> list[Interrupted]:
    """The steps of `make up`, each stopped once by Ctrl-C, before the `make up` that goes through."""
    del checkout_before
    return [outcome for step in STEPS if (outcome := interrupt_in(step)) is not None]


@pytest.fixture(scope="session")
def site(interrupted_ups: list[Interrupted]) -> Cluster:
    """The dev site, up; the interruptions before it are part of how it came to be."""
    del interrupted_ups
    done = subprocess.run(["make", "up"], cwd=CHECKOUT, capture_output=True, text=True, timeout=UP_SECONDS, check=False)
    if done.returncode != 0:
        pytest.fail(f"make up: {done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    target = Target.recorded()
    assert target is not None
    return Cluster(Path(target.kubeconfig))


@pytest.fixture(scope="session")
def node(site: Cluster) -> Cluster:
    """The node alone; tests that need no more than it make their own namespaces."""
    return site


@pytest.fixture(scope="module")
def crd(node: Cluster) -> Iterator[None]:
    """The CRD: a site's, or else ours for the time being."""
    there = "NotFound" not in node.kubectl("get", "crd", CRD_NAME, check=False)
    if not there:
        node.kubectl("apply", "-f", str(CRD))
    node.kubectl("wait", "--for=condition=Established", f"crd/{CRD_NAME}", BOUND)
    yield
    if not there:
        node.kubectl("delete", "crd", CRD_NAME, BOUND)


@pytest.fixture(scope="module")
def image(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    return toolbox.bring_in(tmp_path_factory.mktemp("toolbox"))


@pytest.fixture
def place(node: Cluster, crd: None, image: str, tmp_path: Path) -> Iterator[Site]:
    """A namespace with an account that may do what the controller of a site may, and no more."""
    node.kubectl("create", "namespace", NAMESPACE)
    node.kubectl("wait", "--for=create", "serviceaccount/default", "-n", NAMESPACE, BOUND)
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
    node.kubectl("delete", "namespace", NAMESPACE, BOUND)


@pytest.fixture(scope="module")
def stage(site: Cluster) -> Iterator[Stage]:
    """Sets of a module's own beside the site's."""
    with opened(site) as stage:
        yield stage
