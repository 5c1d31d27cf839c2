"""The site's squids on the real node: how often the origin is asked, what a lost squid costs, and who may ask what.

Clients and origin are stand-ins (tests/caches) on this machine; squids, Services and exporter are the site's own.
"""

import asyncio
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest

from components import naming
from components.naming import CLUSTER_DOMAIN
from components.squid import configuration
from local import images, node as machine
from local.node.layout import NODE_ADDRESS
from local.paths import CHECKOUT
from local.progress import Progress
from tests.caches import client, deployed, faults, reading
from tests.caches.deployed import ORIGIN, PROXIES, REPLICAS, SITE, VIP, Deployed
from tests.caches.faults import MOST, TWICE, Struck
from tests.caches.origin import Origin
from tests.caches.reading import OBJECTS, Outcome
from tests.cluster.cluster import BOUND, Cluster

pytestmark = pytest.mark.cluster

TRIES = 4
FEW = 8  # clients that read on while squids are renewed, and leave them some of the machine


@pytest.fixture(scope="module")
def pictures(node: Cluster) -> dict[str, str]:
    built = images.build(Progress(total=1), ("squid", "startd"))
    machine.import_images([images.archive(name) for name in built])
    return built


@pytest.fixture(scope="module")
def port() -> int:
    """A port of this machine that squids may reach, and that is free now."""
    return deployed.free_port()


@pytest.fixture(scope="module")
def squids(node: Cluster, pictures: dict[str, str], port: int) -> Iterator[Deployed]:
    squids = Deployed(node.kubeconfig)
    squids.apply(deployed.objects(deployed.arguments(pictures["squid"])))
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
    assert OBJECTS <= fetches <= OBJECTS + TWICE


def test_a_squid_that_is_killed_costs_its_own_objects_once_more_and_no_read(squids: Deployed, port: int) -> None:
    async def killed(prefix: str) -> Struck:
        async with Origin(str(NODE_ADDRESS), port) as origin:
            return await faults.read(
                squids, origin, PROXIES, prefix, strike=squids.lose, mend=lambda _: squids.settled()
            )

    struck = _alone("killed", killed)
    assert OBJECTS < struck.fetches <= OBJECTS + struck.held + TWICE <= (1 + MOST) * OBJECTS


def test_a_squid_that_hangs_costs_its_own_objects_once_more_two_time_outs_and_no_read(
    squids: Deployed, port: int
) -> None:
    async def hung(prefix: str) -> Struck:
        async with Origin(str(NODE_ADDRESS), port) as origin:
            return await faults.read(squids, origin, PROXIES, prefix, strike=squids.stop, mend=squids.go_on)

    struck = _alone("hung", hung)
    assert OBJECTS < struck.fetches <= OBJECTS + struck.held + TWICE <= (1 + MOST) * OBJECTS
    # The next one on the ring may fetch the object first, or others before it.
    patience = (1 + client.RETRIES) * client.TIMEOUT_SECONDS + client.BACKOFF_SECONDS
    assert max(struck.outcome.seconds) < patience + client.TIMEOUT_SECONDS


def test_a_configuration_that_squid_refuses_is_never_served(
    node: Cluster, squids: Deployed, pictures: dict[str, str], port: int
) -> None:
    right = deployed.arguments(pictures["squid"])
    good, bad = (deployed.objects(each) for each in (right, replace(right, clients=["10.213.0.0/99"])))

    async def served() -> tuple[list[str], int, int, int]:
        outcome = Outcome()
        async with (
            Origin(str(NODE_ADDRESS), port) as origin,
            reading.clients(PROXIES, squids.addresses(), shard=True, count=FEW) as clients,
            reading.clients(VIP, squids.addresses(), shard=False, count=FEW) as others,
        ):
            await reading.read(clients, ORIGIN, "refused", outcome)
            before = origin.fetched("/refused/")
            await asyncio.to_thread(squids.apply, bad)
            said = await asyncio.to_thread(node.eventually, lambda: _refusals(squids), "squid's checks end", SITE)
            await reading.read(clients, ORIGIN, "refused", outcome)
            after = origin.fetched("/refused/")
            await reading.read(others, ORIGIN, "refused", outcome)
            assert outcome.failed == []
            return said, before, after, sum(each.failures for each in (*clients, *others))

    try:
        said, before, after, failures = asyncio.run(served())
    finally:
        squids.apply(good)
        squids.settled()
    assert all("10.213.0.0/99" in each for each in said)
    # Who answers is who has answered before: what was asked for once is still in the caches.
    assert after == before
    assert failures == 0


def test_an_update_renews_all_squids_and_fails_no_request(
    squids: Deployed, pictures: dict[str, str], port: int
) -> None:
    changed = replace(deployed.arguments(pictures["squid"]), destinations=[ORIGIN, "other.example.org"])
    # Declared before anybody reads: that takes seconds, in which this process answers nobody.
    manifests = deployed.objects(changed)

    async def updated() -> tuple[list[str], int]:
        outcome = Outcome()
        async with (
            Origin(str(NODE_ADDRESS), port),
            reading.clients(PROXIES, squids.addresses(), shard=True, count=FEW) as clients,
        ):
            updating = asyncio.create_task(asyncio.to_thread(squids.renew, manifests))
            while not updating.done():
                await reading.read(clients, ORIGIN, "updated", outcome)
            await updating
            await reading.read(clients, ORIGIN, "updated", outcome)
            return outcome.failed, sum(each.failures for each in clients)

    assert asyncio.run(updated()) == ([], 0)
    mounted = [volume.get("configMap", {}).get("name") for pod in squids.pods() for volume in pod["spec"]["volumes"]]
    assert mounted.count(f"squid-{naming.checksum(configuration(changed))}") == REPLICAS == len(squids.pods())


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


def _alone(name: str, read: Callable[[str], Coroutine[None, None, Struck]]) -> Struck:
    """What came of the squid that was struck alone: on a busy machine clients may leave others, whom nothing befell."""
    for attempt in range(TRIES):
        struck = asyncio.run(read(f"{name}-{attempt}"))
        assert struck.outcome.failed == []
        assert not struck.unnoticed
        if not struck.bystanders:
            break
    return struck


def _refusals(squids: Deployed) -> list[str]:
    """What squid said of the configuration, in each new pod; nothing before all have ended their check."""
    said = []
    for pod in squids.pods():
        (check,) = pod["status"].get("initContainerStatuses") or [{}]
        ends = [check[state]["terminated"] for state in ("state", "lastState") if "terminated" in check.get(state, {})]
        said += [end["message"] for end in ends[:1] if end["exitCode"] != 0]
    return said if len(said) == REPLICAS else []


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
