"""A second node, real and for these tests alone: what runs on every node runs there too, and what its death costs.

It dies as by a power cut: each of its processes is killed, and with them go its network and its mounts.
"""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local import images, node as machine, tools
from local.node import host, processes
from local.node.layout import NETWORK, NODE_ADDRESS, NODE_NAME, this_machine
from local.node.second import PORT, power_off
from local.progress import Progress
from tests.caches import deployed, reading
from tests.caches.deployed import ENDPOINTS, ORIGIN, PROXIES, REPLICAS, SITE, Deployed
from tests.caches.origin import Origin
from tests.caches.reading import Outcome
from tests.cluster.cluster import Cluster
from tests.cluster.network import run

pytestmark = pytest.mark.cluster

SECOND = this_machine().second
PROMISED = timedelta(minutes=2)
FEW = 8  # clients that read on for as long as it takes, and leave the squids some of the machine
PAUSE_SECONDS = 1.0
# Of what runs on every node, and of what may be placed there meanwhile.
IMAGES = ("cvmfs", "services", "startd", "squid")

Json = dict[str, Any]


def start(nodes: int) -> None:
    progress = Progress(total=1)
    machine.start(progress, tools.ensure(progress, machine.TOOLS), nodes)


@pytest.fixture(scope="module")
def second(node: Cluster) -> Iterator[str]:
    """The second node's name, for as long as there is one; nothing of it afterwards."""
    start(2)
    built = images.build(Progress(total=1), IMAGES)
    machine.import_images([images.archive(name) for name in built])
    yield SECOND.name
    start(1)


@pytest.fixture(scope="module")
def port() -> int:
    return deployed.free_port()


@pytest.fixture(scope="module")
def squids(node: Cluster, second: str, port: int) -> Iterator[Deployed]:
    squids = Deployed(node.kubeconfig)
    (image,) = images.build(Progress(total=1), ("squid",)).values()
    squids.apply([*deployed.objects(deployed.arguments(image)), *deployed.origin(port), door()])
    squids.settled()
    yield squids
    start(1)  # a namespace does not go before its pods, nor they from a node that is silent
    squids.remove()


def door() -> Json:
    """Lets in who reads on this machine: a node reaches its own pods alone past all policies."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "this-machine", "namespace": SITE},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": f"{NODE_ADDRESS}/32"}}]}]},
    }


def get(node: Cluster, *words: str) -> Json:
    return dict(json.loads(node.kubectl("get", *words, "-o", "json")))


def condition(thing: Json, kind: str) -> Json:
    return next((dict(each) for each in thing["status"].get("conditions", ()) if each["type"] == kind), {})


def on(squids: Deployed, node: str) -> dict[str, Json]:
    """The squids' pods on a node that are ready there, by name."""
    return {
        pod["metadata"]["name"]: pod
        for pod in squids.pods()
        if pod["spec"].get("nodeName") == node
        and "deletionTimestamp" not in pod["metadata"]
        and condition(pod, "Ready").get("status") == "True"
    }


def test_what_runs_on_every_node_runs_on_the_second_one_too(node: Cluster, second: str) -> None:
    def ready() -> bool:
        agents = get(node, "daemonsets", "-n", "dev-system")["items"]
        return all(agent["status"].get("numberReady") == 2 for agent in agents) and len(agents) > 0

    node.eventually(ready, "each agent is ready on both nodes", "dev-system")
    where = f"spec.nodeName={second}"
    (mounter,) = get(node, "pods", "-n", "dev-system", "-l", "app.kubernetes.io/name=cvmfs", "--field-selector", where)[
        "items"
    ]
    words = ["exec", "-n", "dev-system", mounter["metadata"]["name"], "--", "cat", "/proc/self/mountinfo"]
    assert "/cvmfs/software.atlas-sites.example" in node.kubectl(*words)


def test_a_squid_whose_node_dies_comes_back_on_another_within_two_minutes_and_no_read_fails(
    node: Cluster, squids: Deployed, second: str, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    there, here = on(squids, second), on(squids, NODE_NAME)
    assert there
    assert here

    async def lost() -> Outcome:
        before, outcome = Outcome(), Outcome()
        async with Origin(str(NODE_ADDRESS), port):
            # Each of them serves, wherever it is: who has left one already would not miss it.
            for proxy in ENDPOINTS:
                async with reading.clients(proxy, squids.addresses(), shard=False, count=1) as clients:
                    await reading.read(clients, ORIGIN, "lost", before)
        assert before.failed == []
        async with (
            Origin(str(NODE_ADDRESS), port),
            reading.clients(PROXIES, squids.addresses(), shard=True, count=FEW) as clients,
        ):
            reads = asyncio.create_task(reading.read(clients, ORIGIN, "lost", outcome))
            await outcome.half.wait()
            assert not any(client.left for client in clients)
            await asyncio.to_thread(power_off, SECOND)
            await reads
            back = asyncio.create_task(
                asyncio.to_thread(
                    node.eventually, lambda: len(on(squids, NODE_NAME)) == REPLICAS, "all squids are on one node", SITE
                )
            )
            while not back.done():
                await reading.read(clients, ORIGIN, "lost", outcome)
                await asyncio.wait([back], timeout=PAUSE_SECONDS)
            await back
            assert any(client.left for client in clients)
        return outcome

    outcome = asyncio.run(lost())
    silent = datetime.fromisoformat(get(node, "lease", "-n", "kube-node-lease", second)["spec"]["renewTime"])
    said = condition(get(node, "node", second), "Ready")
    assert said["status"] == "Unknown"
    again = [
        datetime.fromisoformat(condition(pod, "Ready")["lastTransitionTime"])
        for name, pod in on(squids, NODE_NAME).items()
        if name not in here
    ]
    took = max(again) - silent
    with capsys.disabled():
        noticed = datetime.fromisoformat(said["lastTransitionTime"]) - silent
        print(
            f"\nsilent → noticed {noticed.seconds} s, → {len(again)} squids ready elsewhere {took.seconds} s;", end=" "
        )
        print(f"{len(outcome.seconds)} reads, the longest {max(outcome.seconds):.1f} s")
    assert len(again) == len(there)
    assert outcome.failed == []
    assert took < PROMISED


def test_a_second_node_that_is_taken_away_leaves_nothing(node: Cluster, second: str) -> None:
    start(1)
    assert [each["metadata"]["name"] for each in get(node, "nodes")["items"]] == [NODE_NAME]
    there = ("pods", "--all-namespaces", "--field-selector", f"spec.nodeName={second}")
    node.eventually(lambda: not get(node, *there)["items"], "the pods that were there are forgotten", SITE)
    assert not any(str(place) in word for _, words in processes.everyone() for word in words for place in places())
    assert not any(mount.point.is_relative_to(place) for mount in host.present_mounts() for place in places())
    assert not any(place.exists() for place in (*places(), *(device(name) for name in (NETWORK, PORT))))
    assert str(SECOND.pods) not in run("ip", "-4", "route")


def places() -> tuple[Path, ...]:
    return (SECOND.root, SECOND.run)


def device(name: str) -> Path:
    return Path("/sys/class/net", name)
