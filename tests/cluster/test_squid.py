"""The site's squids on the real node: how often the origin is asked.

Clients and origin are stand-ins (tests/caches) on this machine; squids and Services are the site's own.
"""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from components.naming import CLUSTER_DOMAIN
from local import images, node as machine
from local.node.layout import NODE_ADDRESS
from local.progress import Progress
from tests.caches import deployed, reading
from tests.caches.deployed import ORIGIN, SITE, Deployed
from tests.caches.origin import Origin
from tests.caches.reading import OBJECTS, Outcome
from tests.cluster.cluster import Cluster

pytestmark = pytest.mark.cluster

NAMES = [f"http://squid-{index}.{SITE}.svc.{CLUSTER_DOMAIN}:3128" for index in range(3)]
PROXIES = f"{'|'.join(NAMES)};http://squid.{SITE}.svc.{CLUSTER_DOMAIN}:3128"


@pytest.fixture(scope="module")
def pictures(node: Cluster) -> dict[str, str]:
    built = images.build(Progress(total=1), ("squid",))
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
    async def cold() -> tuple[int, Outcome]:
        outcome = Outcome()
        async with (
            Origin(str(NODE_ADDRESS), port) as origin,
            reading.clients(PROXIES, squids.addresses(), shard=True) as clients,
        ):
            await reading.read(clients, ORIGIN, "cold", outcome)
            return origin.fetched("/cold/"), outcome

    fetches, outcome = asyncio.run(cold())
    assert outcome.failed == []
    assert OBJECTS <= fetches <= OBJECTS + 2
