"""A node whose kernel runs out of memory, by a line of its real log: told, taken out of use, emptied and given back."""

import json
from pathlib import Path

import httpx
import pytest

from services.kube import from_kubeconfig
from tests.cluster.cluster import Cluster
from tests.cluster.stage import HELD, REQUESTED, SITE, Json, Stage

pytestmark = pytest.mark.cluster

NODE = "atlas-local"
SYSTEM = f"{SITE}-system"
UNHEALTHY = "nodehealth.atlas-sites.io/unhealthy"
HELD_BACK = "nodehealth.atlas-sites.io/held"
# What the kernel says at level err; who writes it by hand is told from the kernel by nothing but the facility.
SLUB = "<3>SLUB: Unable to allocate memory on node -1, gfp=0x6000c0(GFP_KERNEL)\n"


def node_of(stage: Stage) -> Json:
    return dict(json.loads(stage.cluster.kubectl("get", "node", NODE, "-o", "json")))


def condition(node: Json, kind: str) -> Json:
    return next((dict(each) for each in node["status"]["conditions"] if each["type"] == kind), {})


def taints(node: Json) -> set[str]:
    return {taint["key"] for taint in node["spec"].get("taints", ())}


def test_a_node_with_the_slub_error_is_taken_out_of_use_its_jobs_end_first_and_it_comes_back(stage: Stage) -> None:
    startds = stage.startds("slub", env={"NOCLAIM_SECONDS": "600"}, fizzleSeconds=700)
    job = startds.submit(f"{HELD}; echo whole")
    job.runs()

    def away() -> Json | None:
        # Again with each look: the problem lasts until it is seen, however slow this machine is.
        with Path("/dev/kmsg").open("w") as log:
            log.write(SLUB)
        node = node_of(stage)
        return node if UNHEALTHY in taints(node) else None

    node = stage.eventually(away, "the node is taken out of use")
    assert node is not None
    assert condition(node, "KernelMemoryProblem")["reason"] == "SlubAllocationFailure"
    assert "SLUB: Unable to allocate memory on node -1" in condition(node, "KernelMemoryProblem")["message"]
    assert node["spec"]["unschedulable"] is True
    assert json.loads(node["metadata"]["annotations"][HELD_BACK])["why"] == "KernelMemoryProblem"
    startds.drains(1)
    assert startds.pod_versions(1)[-1]["metadata"]["annotations"][REQUESTED] == "peaceful"
    startds.let_go(1)
    assert (job.ends(), job.output(), job.starts) == (0, "whole\n", 1)
    assert startds.outcome(1)["class"] == "Worked"

    def back() -> bool:
        node = node_of(stage)
        return HELD_BACK not in node["metadata"].get("annotations", {}) and not node["spec"].get("unschedulable")

    stage.eventually(back, "the node is given back")
    stage.eventually(lambda: not taints(node_of(stage)), "nothing keeps pods off the node")
    assert condition(node_of(stage), "KernelMemoryProblem")["status"] == "False"


def test_who_has_a_monitors_token_but_is_not_on_the_node_cannot_change_it(site: Cluster) -> None:
    access = from_kubeconfig(site.kubeconfig)
    false = {"status": {"conditions": [{"type": "KernelHung", "status": "True"}]}}
    # Not by kubectl, which reads the status first: that a monitor may not even do.
    said = httpx.patch(
        f"{access.server}/api/v1/nodes/{NODE}/status",
        json=false,
        headers={
            "Content-Type": "application/strategic-merge-patch+json",
            "Impersonate-User": f"system:serviceaccount:{SYSTEM}:node-monitor",
        },
        verify=access.tls,
        trust_env=False,
        timeout=60,
    )
    assert said.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "a node monitor may change the status of its own node only" in said.text


@pytest.mark.parametrize(
    ("who", "verb", "resource", "allowed"),
    [
        ("nodehealth", "patch", "nodes", True),
        ("nodehealth", "delete", "nodes", False),
        ("nodehealth", "patch", "nodes/status", False),
        ("nodehealth", "list", "pods", False),
        ("node-monitor", "patch", "nodes/status", True),
        ("node-monitor", "patch", "nodes", False),
        ("node-monitor", "get", "secrets", False),
    ],
)
def test_who_looks_after_nodes_may_do_that_and_no_more(
    site: Cluster, who: str, verb: str, resource: str, *, allowed: bool
) -> None:
    namespace = SYSTEM if who == "node-monitor" else SITE
    name, _, part = resource.partition("/")
    account = f"--as=system:serviceaccount:{namespace}:{who}"
    said = site.kubectl("auth", "can-i", verb, name, f"--subresource={part}", account, "-n", namespace, check=False)
    assert ("yes" if allowed else "no") in said.splitlines()
