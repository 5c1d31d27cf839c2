"""The site's squids on the real node: how often the origin is asked, and who may ask what.

Clients and origin are stand-ins (tests/caches) on this machine; squids, Services and exporter are the site's own.
"""

import asyncio
import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from components.naming import CLUSTER_DOMAIN
from local import images, node as machine
from local.node.layout import NODE_ADDRESS
from local.paths import CHECKOUT
from local.progress import Progress
from tests.caches import deployed, reading
from tests.caches.deployed import ORIGIN, SITE, Deployed
from tests.caches.origin import Origin
from tests.caches.reading import OBJECTS, Outcome
from tests.cluster.cluster import BOUND, Cluster

pytestmark = pytest.mark.cluster

NAMES = [f"http://squid-{index}.{SITE}.svc.{CLUSTER_DOMAIN}:3128" for index in range(3)]
TRIES = 4
PROXIES = f"{'|'.join(NAMES)};http://squid.{SITE}.svc.{CLUSTER_DOMAIN}:3128"


@pytest.fixture(scope="module")
def pictures(node: Cluster) -> dict[str, str]:
    built = images.build(Progress(total=1), ("squid", "startd"))
    machine.import_images([images.archive(name) for name in built])
    return built


@pytest.fixture(scope="module")
def port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as free:
        free.bind((str(NODE_ADDRESS), 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def squids(node: Cluster, pictures: dict[str, str], port: int) -> Iterator[Deployed]:
    squids = Deployed(node.kubeconfig)
    squids.apply(deployed.objects(pictures["squid"]))
    squids.apply(deployed.origin(port))
    squids.settled()
    yield squids
    squids.remove()


def test_an_object_costs_the_origin_one_fetch_however_many_ask(squids: Deployed, port: int) -> None:
    async def cold(prefix: str) -> tuple[int, Outcome, bool]:
        outcome = Outcome()
        async with (
            Origin(str(NODE_ADDRESS), port) as origin,
            reading.clients(PROXIES, squids.addresses(), shard=True) as clients,
        ):
            await reading.read(clients, ORIGIN, prefix, outcome)
            return origin.fetched(f"/{prefix}/"), outcome, any(client.left for client in clients)

    # On a busy machine a client may wait its 5 s in vain and turn to another squid, which is not what is asked here.
    for attempt in range(TRIES):
        fetches, outcome, left = asyncio.run(cold(f"cold-{attempt}"))
        assert outcome.failed == []
        if not left:
            break
    assert OBJECTS <= fetches <= OBJECTS + 2


def test_a_pod_reaches_what_is_declared_and_nothing_else(
    node: Cluster, squids: Deployed, pictures: dict[str, str], port: int
) -> None:
    api = node.kubectl("get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    matrix = {
        ("GET", f"http://{ORIGIN}/matrix/1"): "200",
        ("HEAD", f"http://{ORIGIN}/matrix/1"): "200",
        ("POST", f"http://{ORIGIN}/matrix/1"): "403",
        ("DELETE", f"http://{ORIGIN}/matrix/1"): "403",
        ("GET", f"http://{ORIGIN}:443/"): "403",
        ("GET", f"http://{ORIGIN}:22/"): "403",
        ("GET", f"ftp://{ORIGIN}:80/"): "403",
        ("GET", f"http://{squids.addresses()[ORIGIN]}/"): "403",
        ("GET", "http://169.254.169.254/latest/meta-data/"): "403",
        ("GET", f"http://kubernetes.default.svc.{CLUSTER_DOMAIN}/"): "403",
        ("GET", f"http://{api}/"): "403",
        ("GET", f"http://{NODE_ADDRESS}/"): "403",
        ("GET", "http://127.0.0.1:3128/"): "403",
        ("GET", "http://www.example.org/"): "403",
        ("GET", "http://squid:3128/squid-internal-mgr/info"): "403",
    }
    words = "curl --silent --max-time 20 --output /dev/null --proxy http://squid:3128"
    lines = [f'{words} --write-out "%{{http_code}}\\n" {_method(method)} {url}' for method, url in matrix]
    # A tunnel that is refused shows in the answer to CONNECT alone.
    tunnel = f'{words} --write-out "%{{http_connect}}\\n" https://{ORIGIN}/'

    async def asked() -> str:
        async with Origin(str(NODE_ADDRESS), port):
            return await asyncio.to_thread(
                squids.kubectl, "exec", "asker", "--", "sh", "-c", "; ".join([*lines, tunnel, "true"])
            )

    squids.kubectl("apply", "-f", "-", stdin=json.dumps(_asker(pictures["startd"])))
    squids.kubectl("wait", "--for=condition=Ready", "pod/asker", BOUND)
    *said, tunnelled = asyncio.run(asked()).split()
    assert dict(zip(matrix, said, strict=True)) == matrix
    assert tunnelled == "403"


def test_who_is_not_in_the_sites_networks_is_refused(squids: Deployed) -> None:
    ask = (
        f"exec 3<>/dev/tcp/127.0.0.1/3128; printf 'GET http://{ORIGIN}/matrix/1 HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
    )
    said = squids.kubectl("exec", "deployment/squid-0", "-c", "squid", "--", "bash", "-c", ask)
    assert " 403 " in said


def test_each_squid_tells_what_alerts_and_dashboards_ask_for(squids: Deployed, node: Cluster) -> None:
    address = squids.addresses()[f"squid-1.{SITE}.svc.{CLUSTER_DOMAIN}"]
    # A pod is ready when its squid is; its exporter may come a moment later.
    answer = node.eventually(lambda: _metrics(address), "what the exporter tells", SITE)
    told = {line.partition(" ")[0].partition("{")[0]: line.split()[-1] for line in answer.split("\n") if line}
    page = (CHECKOUT / "docs/runbooks/squid.md").read_text()
    wanted = {word for word in page.split("`") if word.startswith("squid_")}
    files = [*(CHECKOUT / "dashboards/alerts").iterdir(), *(CHECKOUT / "dashboards/grafana").iterdir()]
    asked_for = "".join(file.read_text() for file in files)
    wanted |= set(re.findall(r"\bsquid_\w+", asked_for))
    assert len(wanted) >= 11
    assert wanted <= set(told)
    assert float(told["squid_up"]) == 1
    assert float(told["squid_client_http_requests_total"]) > 0
    assert float(told["squid_info_Maximum_number_of_file_descriptors"]) == 16384


def _metrics(address: str) -> str:
    """What an exporter tells; nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{address}:9301/metrics", timeout=20) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return ""


def _method(method: str) -> str:
    return "--head" if method == "HEAD" else f"--request {method}"


def _asker(image: str) -> dict[str, Any]:
    container = {"name": "asker", "image": image, "command": ["sleep", "3600"]}
    limits = {"resources": {"limits": {"cpu": "1", "memory": "64Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asker", "namespace": SITE},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsUser": 1000},
            "containers": [{**container, **limits}],
        },
    }
