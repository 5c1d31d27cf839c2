"""How often the origin is asked, and what a squid that is lost or hangs costs, in four layouts side by side.

    .venv/bin/python benchmarks/squid.py

Clients know the VIP alone, or shard over all squids as CVMFS does; no squid asks another, as the site declares it, or
they are siblings, as nowhere but here (docs/adr/0019). Squids, Services and policies are the site's own, on this
machine's node beside the dev site, which must be up; clients and origin are stand-ins (tests/caches). Takes eight
minutes, prints a table, writes JSON.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))  # run as a file: the checkout is not a distribution

from components import naming  # noqa: E402  needs the path above
from components.namespaces import SQUID_PORT  # noqa: E402
from components.squid import PROPAGATION_SECONDS  # noqa: E402
from local import images, node  # noqa: E402
from local.node.layout import NODE_ADDRESS  # noqa: E402
from local.progress import Progress  # noqa: E402
from local.refusal import Refusal  # noqa: E402
from tests.caches import deployed, faults, reading  # noqa: E402
from tests.caches.deployed import ORIGIN, PROXIES, REPLICAS, SITE, VIP, Deployed, Json  # noqa: E402
from tests.caches.origin import Origin  # noqa: E402
from tests.caches.reading import CLIENTS, OBJECTS, Outcome  # noqa: E402

RESULTS = CHECKOUT / "benchmarks/results/squid.json"
ICP_PORT = 3130
FEW = 8  # clients of each way that read on while squids are renewed, and leave them some of the machine


class Way(NamedTuple):
    """How clients choose a squid."""

    name: str
    proxies: str
    shard: bool


WAYS = (Way("VIP", VIP, shard=False), Way("sharded", PROXIES, shard=True))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of the reads of one case.

    Attributes:
        fetches: that the origin saw for each object.
        failed: reads, of all.
    """

    case: str
    layout: str
    fetches: float
    failed: int
    reads: int
    p50_ms: float
    p99_ms: float
    worst_s: float


def row(case: str, layout: str, fetches: int, outcome: Outcome) -> Row:
    """In the table's units."""
    return Row(
        case=case,
        layout=layout,
        fetches=fetches / OBJECTS,
        failed=len(outcome.failed),
        reads=len(outcome.seconds),
        p50_ms=1000 * outcome.within(0.5),
        p99_ms=1000 * outcome.within(0.99),
        worst_s=max(outcome.seconds),
    )


def asking(index: int) -> str:
    """What squid.conf of one squid says besides, so that it and the others ask each other."""
    hosts = [naming.service_host(naming.squid(each), SITE) for each in range(REPLICAS) if each != index]
    peers = "\n".join(
        f"cache_peer {host} sibling {SQUID_PORT} {ICP_PORT} no-digest no-netdb-exchange" for host in hosts
    )
    return f"""
icp_port {ICP_PORT}
icp_access allow clients
icp_access deny all
{peers}
# Squids of one name would take each other's requests for their own, gone round in a loop.
unique_hostname {SITE}-{naming.squid(index)}
# Debian's squid asks no sibling for what is nearer than 400 ms or four hops.
minimum_direct_hops 0
minimum_direct_rtt 0
# By itself it waits for twice the usual time of an answer, which is less than a busy machine may take.
minimum_icp_query_timeout 100
"""


def siblings(manifests: Sequence[Json]) -> list[Json]:
    """The same squids, each of which asks the others (by ICP, for a digest is old) and keeps what it gets."""
    changed: list[Json] = json.loads(json.dumps(manifests))
    (conf,) = [each for each in changed if each["kind"] == "ConfigMap"]
    conf["metadata"]["name"] += "-siblings"
    (text,) = conf["data"].values()
    conf["data"] = {naming.squid(index): text + asking(index) for index in range(REPLICAS)}
    icp = {"port": ICP_PORT, "protocol": "UDP"}
    for service in (each for each in changed if each["kind"] == "Service"):
        service["spec"]["ports"].append({"name": "icp", **icp})
    for deployment in (each for each in changed if each["kind"] == "Deployment"):
        name = deployment["metadata"]["name"]
        (volume,) = [each for each in deployment["spec"]["template"]["spec"]["volumes"] if "configMap" in each]
        volume["configMap"] = {"name": conf["metadata"]["name"], "items": [{"key": name, "path": "squid.conf"}]}
    (policy,) = [each for each in changed if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "squid"]
    squids = [{"podSelector": policy["spec"]["podSelector"]}]
    policy["spec"]["ingress"].append({"from": squids, "ports": [icp]})
    policy["spec"]["egress"].append({"to": squids, "ports": [icp, {"port": SQUID_PORT, "protocol": "TCP"}]})
    return changed


async def measured(squids: Deployed, origin: Origin, way: Way, layout: str) -> list[Row]:
    """All cases in which one squid is lost or hangs."""
    addresses = squids.addresses()

    async def whole(case: str, prefix: str) -> Row:
        """All objects, read by clients that are new."""
        before, outcome = origin.fetched(f"/{prefix}/"), Outcome()
        async with reading.clients(way.proxies, addresses, shard=way.shard) as clients:
            await reading.read(clients, ORIGIN, prefix, outcome)
        return row(case, layout, origin.fetched(f"/{prefix}/") - before, outcome)

    async def struck(case: str, prefix: str, strike: Callable[[int], None], mend: Callable[[int], None]) -> Row:
        done = await faults.read(squids, origin, way.proxies, prefix, strike=strike, mend=mend, shard=way.shard)
        return row(case, layout, done.fetches, done.outcome)

    calm, killed, hung = (f"{way.name}-{case}" for case in ("calm", "killed", "hung"))
    rows = [await whole("cold", calm)]
    await asyncio.to_thread(squids.lose, faults.chosen(addresses, calm).index)
    await asyncio.to_thread(replaced, squids)
    rows.append(await whole("again, one squid lost and replaced between", calm))
    rows.append(await struck("cold, one squid lost amid the reads", killed, squids.lose, lambda _: replaced(squids)))
    rows.append(await whole("again, that one replaced", killed))
    rows.append(await struck("cold, one squid hangs amid the reads", hung, squids.stop, squids.go_on))
    return rows


def replaced(squids: Deployed) -> None:
    """Waits until the squid after a lost one answers, and clients find it; at first nobody knows of the loss."""
    time.sleep(PROPAGATION_SECONDS)
    squids.settled()


async def renewed(squids: Deployed, origin: Origin, manifests: Sequence[Json], knowing: str) -> list[Row]:
    """An update of all squids while clients of both ways read on what they have read before."""
    outcomes = {way: Outcome() for way in WAYS}
    async with AsyncExitStack() as stack:
        readers = {
            way: await stack.enter_async_context(
                reading.clients(way.proxies, squids.addresses(), shard=way.shard, count=FEW)
            )
            for way in WAYS
        }

        async def read(way: Way, outcome: Outcome) -> None:
            await reading.read(readers[way], ORIGIN, f"{way.name}-renewed", outcome)

        await asyncio.gather(*(read(way, Outcome()) for way in WAYS))
        before = {way: origin.fetched(f"/{way.name}-renewed/") for way in WAYS}
        update = asyncio.create_task(asyncio.to_thread(squids.renew, manifests))

        async def read_on(way: Way) -> None:
            while not update.done():
                await read(way, outcomes[way])
            await read(way, outcomes[way])

        await asyncio.gather(update, *(read_on(way) for way in WAYS))
    return [
        row(
            f"all squids renewed, {FEW} clients of each way read on",
            way.name + knowing,
            origin.fetched(f"/{way.name}-renewed/") - before[way],
            outcome,
        )
        for way, outcome in outcomes.items()
    ]


async def compared(squids: Deployed, before: Sequence[Json], after: Sequence[Json], port: int) -> list[Row]:
    """All cases in all layouts, those with siblings with caches that are empty again."""
    rows = []
    for knowing, first, last in (("", before, after), (", siblings", siblings(before), siblings(after))):
        if first is not before:
            await asyncio.to_thread(squids.renew, first)
        async with Origin(str(NODE_ADDRESS), port) as origin:
            for way in WAYS:
                rows += await told(measured(squids, origin, way, way.name + knowing))
            rows += await told(renewed(squids, origin, last, knowing))
    return rows


async def told(measuring: Awaitable[list[Row]]) -> list[Row]:
    """The rows, which are shown as they come to whoever waits."""
    rows = await measuring
    for each in rows:
        print(f"{each.layout}: {each.case}: {each.fetches:.2f} fetches", file=sys.stderr)
    return rows


def measure() -> list[Row]:
    """All cases in all layouts, on squids that are there for that time.

    Raises:
        Refusal: the node does not run, or would not have them.
    """
    image = images.build(Progress(total=1), ("squid",))["squid"]
    node.import_images([images.archive("squid")])
    os.environ.update(node.environment())
    squids, port, now = Deployed(node.KUBECONFIG), deployed.free_port(), deployed.arguments(image)
    before = deployed.objects(now)
    after = deployed.objects(replace(now, destinations=[*now.destinations, "other.example.org"]))
    try:
        squids.apply(before)
        squids.apply(deployed.origin(port))
        squids.settled()
        return asyncio.run(compared(squids, before, after, port))
    finally:
        squids.remove()


def table(rows: Sequence[Row]) -> str:
    """Case by case, the layouts beside each other."""
    lines = [
        "| case | layout | fetches an object | failed reads | p50 | p99 | worst |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(each.case for each in rows):
        name = case
        for each in sorted((each for each in rows if each.case == case), key=lambda each: each.layout):
            lines.append(
                f"| {name} | {each.layout} | {each.fetches:.2f} | {each.failed:,} of {each.reads:,} "
                f"| {each.p50_ms:.0f} ms | {each.p99_ms:.0f} ms | {each.worst_s:.1f} s |"
            )
            name = ""
    return "\n".join(lines)


def main() -> None:
    """Measures and prints the table."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever ends it wants the squids gone too
    try:
        rows = measure()
    except Refusal as refusal:
        sys.exit(str(refusal))
    print(f"{OBJECTS} objects, {CLIENTS} clients, {REPLICAS} squids\n\n{table(rows)}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(each) for each in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
