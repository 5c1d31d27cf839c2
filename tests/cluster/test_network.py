"""Who reaches whom on the real node, from where a payload is, and from where whoever looks for a door is.

What a payload must not reach is there all the same, and answers somebody whom no policy holds.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from local.node.layout import (
    API_PORT,
    API_SERVICE_ADDRESS,
    BRIDGE,
    DNS_SERVICE_ADDRESS,
    KUBELET_PORT,
    NODE_ADDRESS,
    PODS,
)
from tests.cluster.cluster import BOUND, Cluster
from tests.cluster.network import Network, run
from tests.cluster.stage import HELD, SITE, Stage

pytestmark = pytest.mark.cluster

# Beyond the node, in a network namespace: an address of each kind, and a server behind some ports.
GATEWAY = "198.51.100.1"
PUBLIC = "198.51.100.7"
METADATA = "169.254.169.254"
PRIVATE = "172.20.0.7"
PORTS = (80, 443, 8000)
ROUTES = "213"  # a table of routes that only what comes from pods looks into
DEVICE = "beyond0"
SERVE = """
import signal, socket, sys
servers = [socket.create_server(("", int(port))) for port in sys.argv[1:]]
print("ready", flush=True)
signal.pause()
"""
OUTSIDE = "network-test"
DOOR = 9999
CONNECT_SECONDS = 4

Place = tuple[str, int]


def probe(places: Iterable[Place]) -> str:
    """A script for sh and bash that tries to connect to all places at once, and prints those that it reaches."""
    tries = " ".join(
        f"(timeout {CONNECT_SECONDS} bash -c 'exec 3<>/dev/tcp/{host}/{port}' && echo {host} {port}) 2>/dev/null &"
        for host, port in places
    )
    return f"{tries} wait"


def reached(said: str) -> set[Place]:
    """The places that such a script printed."""
    return {(host, int(port)) for host, port in (line.split() for line in said.splitlines())}


@pytest.fixture(scope="module")
def beyond() -> Iterator[Network]:
    """A machine beyond the node; only pods find its private addresses, lest this machine lose servers of its own."""
    words = ["unshare", "--net", sys.executable, "-c", SERVE, *map(str, PORTS)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        there = Network(server.pid)
        run("ip", "link", "add", DEVICE, "type", "veth", "peer", "name", "eth0", "netns", str(server.pid))
        run("ip", "address", "add", f"{GATEWAY}/24", "dev", DEVICE)
        run("ip", "link", "set", DEVICE, "up")
        Path(f"/proc/sys/net/ipv4/conf/{DEVICE}/forwarding").write_text("1")
        for address in (f"{PUBLIC}/24", f"{METADATA}/32", f"{PRIVATE}/32"):
            there.run("ip", "address", "add", address, "dev", "eth0")
        there.run("ip", "link", "set", "eth0", "up")
        there.run("ip", "route", "add", str(PODS), "via", GATEWAY)
        for address in (METADATA, PRIVATE):
            run("ip", "route", "add", address, "via", PUBLIC, "dev", DEVICE, "table", ROUTES)
        run("ip", "rule", "add", "iif", BRIDGE, "lookup", ROUTES)
        yield there
        run("ip", "rule", "delete", "iif", BRIDGE, "lookup", ROUTES)
        run("ip", "link", "delete", DEVICE)
        server.kill()


def address(cluster: Cluster, namespace: str, component: str) -> str:
    """Of a pod of that component."""
    path = "jsonpath={.items[0].status.podIP}"
    return cluster.kubectl("get", "pods", "-n", namespace, "-l", f"app.kubernetes.io/name={component}", "-o", path)


def service(cluster: Cluster, namespace: str, name: str) -> str:
    return cluster.kubectl("get", "service", "-n", namespace, name, "-o", "jsonpath={.spec.clusterIP}")


@pytest.fixture(scope="module")
def stranger(site: Cluster) -> Iterator[str]:
    """The address of a pod in a namespace without any policy, which serves at port 8080."""
    image = site.kubectl(
        "get", "startdset", "startds", "-n", SITE, "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    container = {"name": "main", "image": image, "command": ["python3", "-m", "http.server", "8080"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "labels": {"app.kubernetes.io/name": "stranger"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    site.kubectl("create", "namespace", OUTSIDE)
    site.kubectl("wait", "--for=create", "serviceaccount/default", "-n", OUTSIDE, BOUND)
    site.kubectl("apply", "-n", OUTSIDE, "-f", "-", stdin=json.dumps(pod))
    site.kubectl("wait", "-n", OUTSIDE, "pod/stranger", "--for=condition=Ready", BOUND)
    yield address(site, OUTSIDE, "stranger")
    site.kubectl("delete", "namespace", OUTSIDE, BOUND)


def by_stranger(site: Cluster, places: Iterable[Place]) -> set[Place]:
    return reached(site.kubectl("exec", "-n", OUTSIDE, "stranger", "--", "bash", "-c", probe(places)))


def closed(stranger: str) -> set[Place]:
    """What neither a payload nor a squid has business with."""
    return {
        (str(API_SERVICE_ADDRESS), 443),
        (str(NODE_ADDRESS), API_PORT),
        (str(NODE_ADDRESS), KUBELET_PORT),
        (METADATA, 80),
        (PRIVATE, 443),
        (stranger, 8080),
    }


def test_a_payload_reaches_squids_dns_pool_and_public_addresses_and_nobody_reaches_it(
    site: Cluster, stranger: str, beyond: Network, stage: Stage
) -> None:
    squid, controller = address(site, SITE, "squid"), address(site, SITE, "vacuum")
    allowed = {
        (service(site, SITE, "squid"), 3128),
        (squid, 3128),
        (str(DNS_SERVICE_ADDRESS), 53),
        (service(site, "pool", "cm"), 9618),
        (PUBLIC, 443),
        (PUBLIC, 8000),
    }
    # Inside the site too, a payload has business with squids alone.
    denied = closed(stranger)
    inside = {(squid, 9301), (controller, 8080)}
    startds = stage.startds("network")
    door = f"python3 -m http.server {DOOR} >/dev/null 2>&1 & touch /tmp/probed; {HELD}; kill $!"
    job = startds.submit(f"{probe(allowed | denied | inside)}; {door}")
    job.runs()
    startds.made(1, "tmp/probed")
    assert by_stranger(site, denied | {(PUBLIC, 443)}) == denied | {(PUBLIC, 443)}
    entrance = (startds.runs(1)["status"]["podIP"], DOOR)
    stage.eventually(lambda: reached(run("bash", "-c", probe([entrance]))), "the payload's door is open")
    assert by_stranger(site, [entrance]) == set()
    assert reached(beyond.run("bash", "-c", probe([entrance]))) == set()
    startds.let_go(1)
    assert job.ends() == 0
    assert reached(job.output()) == allowed


def test_a_squid_reaches_origins_wherever_they_are_and_nothing_else(
    site: Cluster, stranger: str, beyond: Network
) -> None:
    del beyond
    allowed = {(PUBLIC, 80), (PUBLIC, 8000), (PRIVATE, 80), (str(DNS_SERVICE_ADDRESS), 53)}
    denied = closed(stranger) | {(PUBLIC, 443), (service(site, "pool", "cm"), 9618)}
    assert by_stranger(site, allowed | denied) == allowed | denied
    words = ["exec", "-n", SITE, "deployment/squid-0", "-c", "squid", "--", "bash", "-c", probe(allowed | denied)]
    assert reached(site.kubectl(*words)) == allowed


def test_the_site_has_no_door_for_whoever_is_outside(site: Cluster, stranger: str, beyond: Network) -> None:
    pods = json.loads(site.kubectl("get", "pods", "-n", SITE, "-o", "json"))["items"]
    declared = {
        (pod["status"]["podIP"], port["containerPort"])
        for pod in pods
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
    }
    # They are open for this machine, from which the kubelet looks whether pods are well.
    doors = reached(run("bash", "-c", probe(declared)))
    assert {(address(site, SITE, "squid"), 3128), (address(site, SITE, "vacuum"), 8080)} < doors
    assert by_stranger(site, doors) == set()
    assert reached(beyond.run("bash", "-c", probe(doors | {(stranger, 8080)}))) == {(stranger, 8080)}
