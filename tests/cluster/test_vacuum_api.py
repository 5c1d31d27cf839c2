"""The controller against the real API server: what it refuses, what it does, what it leaves alone."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from local.paths import CHECKOUT
from tests.cluster.cluster import WAIT_SECONDS, Cluster
from tests.cluster.controller import (
    FINDS_NOTHING,
    NAMESPACE,
    STAYS,
    Site,
)

pytestmark = pytest.mark.cluster


def test_kubectl_explains_the_spec(node: Cluster, crd: None) -> None:
    def text() -> str:
        return node.kubectl("explain", "startdset.spec", "--recursive", check=False)

    # The API server publishes the schema of a new kind a moment after it serves it.
    node.eventually(lambda: "FIELDS" in text(), "the schema is published")
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
        {"window": {"initial": 100, "maximum": 10}},
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
    place.eventually(lambda: place.status().get("startds", {}).get("running") == 3, "three startds run")
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
    place.eventually(lambda: place.status().get("startds", {}).get("running") == 3, "three startds run")
    before = {pod["metadata"]["uid"] for pod in place.pods()}
    place.stop(signal.SIGTERM)
    after = [pod["metadata"] for pod in place.pods()]
    assert {meta["uid"] for meta in after} == before
    assert not any("deletionTimestamp" in meta for meta in after)
    place.start()
    place.delete()


def test_a_set_backs_off_without_work_and_tries_again_when_it_is_told_to(place: Site) -> None:
    place.start()
    place.apply(place.spec(FINDS_NOTHING))
    place.eventually(lambda: place.status().get("state") == "BackingOff" and place.pods() == [], "it backs off")
    status = place.status()
    assert set(status["outcomes"]) == {"NoWork"}
    assert status["circuit"]["level"] == 1
    explained = subprocess.run(
        [sys.executable, "-m", "services.vacuum", "--kubeconfig", place.kubeconfig, "explain"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    ).stdout
    assert "startds found no work; the next tries at" in explained
    annotation = "vacuum.atlas-sites.io/retry-now=yes"
    place.cluster.kubectl("annotate", "startdset", "startds", "-n", NAMESPACE, annotation)
    one_more = sum(status["outcomes"].values()) + 1
    place.eventually(lambda: sum(place.status()["outcomes"].values()) == one_more, "the probe was made and counted")
    place.eventually(lambda: place.status()["state"] == "BackingOff", "it backs off again")
    assert "vacuum.atlas-sites.io/retry-now" not in place.get("startdset", "startds")["metadata"].get("annotations", {})
    place.delete()


def test_a_set_whose_controller_is_gone_for_good_goes_as_the_runbook_says(place: Site) -> None:
    place.start()
    place.apply(place.spec(STAYS))
    place.eventually(lambda: place.status().get("startds", {}).get("running") == 3, "three startds run")
    place.stop(signal.SIGKILL)
    place.cluster.kubectl("delete", "startdset", "startds", "-n", NAMESPACE, "--wait=false")
    assert "deletionTimestamp" in place.get("startdset", "startds")["metadata"]
    text = (CHECKOUT / "docs/runbooks/remove-a-startdset.md").read_text()
    for command in text.split("```")[1].strip().replace("SITE", NAMESPACE).splitlines():
        environment = {**os.environ, "KUBECONFIG": str(place.cluster.kubeconfig)}
        subprocess.run(["sh", "-c", command], env=environment, capture_output=True, timeout=WAIT_SECONDS, check=True)
    place.eventually(
        lambda: place.get("startdsets")["items"] == [] and place.pods() == [], "nothing of the set is left"
    )
