"""What the portal takes to show 50 sites, one of which has 10,000 startds on 1,000 nodes of kwok.

    .venv/bin/python -m benchmarks.portal_on_kwok [--sites 50] [--startds 10000] [--nodes 1000] [--requests 50]

Of that site all but the kubelets is real: the API server, the vacuum controller that makes the startds, the pusher that
watches them. The other sites push a report of 20 startds each. Pages are asked for while the pusher goes on. Prints a
table and writes JSON to benchmarks/results/.
"""

import argparse
import json
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import httpx

from benchmarks.portal import TOKEN, Asked, ask, content, free_ports, resident_mib, wait
from benchmarks.pusher import HOST, PUSHER, SECONDS, program, until_taken
from benchmarks.vacuum_scale.objects import NAME
from benchmarks.vacuum_scale.observer import Observer
from benchmarks.vacuum_scale.plane import SUBJECT, Pace, Plane, plane
from benchmarks.vacuum_scale.programs import programs
from benchmarks.vacuum_scale.run import nodes
from benchmarks.vacuum_scale.subjects import Vacuum, until
from services.portal.gate import digest
from services.vacuum.act import AT_ONCE

RESULTS = Path(__file__).resolve().parent / "results/portal-on-kwok.json"
SITE = "site-00"
OTHERS_STARTDS = 20
FULL_SECONDS = 600.0
PACE = Pace(qps=10_000.0, burst=20_000, workers=AT_ONCE)


def filled(made: Plane, client: httpx.Client, startds: int, number: int) -> None:
    """Has our controller make the startds, and waits until all run."""
    nodes(client, number)
    observer = Observer(made)
    observer.begin()
    vacuum = Vacuum(plane=made, client=client, pace=PACE, window=startds)
    vacuum.start()
    vacuum.scale(startds)
    until(lambda: observer.running >= startds, "all startds run", FULL_SECONDS)


def shown(directory: Path, kubeconfig: Path, names: Sequence[str], startds: int, requests: int) -> dict[str, object]:
    """Starts a hub and a pusher, lets the other sites push, and asks for pages."""
    push, pages, hub_health, health = free_ports(4)
    tokens = directory / "sites"
    tokens.mkdir()
    for name in names:
        (tokens / name).write_text(digest(TOKEN + name))
    (directory / "write").write_text(TOKEN + SITE)
    metrics = f"http://{HOST}:{hub_health}/metrics"
    with ExitStack() as stack:
        hub = stack.enter_context(
            program(
                ["-m", "services.portal"],
                SITES=",".join(names),
                STORE=directory / "portal.db",
                TOKENS=tokens,
                PORT=hub_health,
                PUSH_PORT=push,
                PAGES_PORT=pages,
            )
        )
        wait(hub_health)
        stack.enter_context(
            program(
                ["-c", PUSHER, "from_kubeconfig", kubeconfig],
                SITE=SITE,
                ATLAS_SITE="HALL-PROD",
                HUB=f"http://{HOST}:{push}",
                TOKEN=directory / "write",
                CREDENTIALS=metrics,
                ACCOUNTING="",
                SQUIDS="",
                SECONDS=SECONDS,
                PORT=health,
            )
        )
        client = stack.enter_context(httpx.Client(base_url=f"http://{HOST}:{pages}", trust_env=False, timeout=30))
        for name in names[1:]:
            headers = {"Authorization": f"Bearer {TOKEN}{name}", "Content-Encoding": "gzip"}
            url = f"http://{HOST}:{push}/api/v1/sites/{name}"
            client.put(url, content=content(name, OTHERS_STARTDS), headers=headers).raise_for_status()
        until_taken(health, 2)
        of_set = f"/sites/{SITE}/sets/{NAME}"
        # Thousands are set apart by a space.
        told = re.search(r"<dt>Running</dt><dd>([\d\s]+)</dd>", client.get(of_set).text)
        if told is None or int("".join(told[1].split())) != startds:
            raise SystemExit(f"the portal does not tell of {startds} running startds: look at {of_set}")
        asked = [ask(client, page, requests) for page in ("/", "/?sort=-running", f"/sites/{SITE}", of_set)]
        return {
            "sites": len(names),
            "startds": startds,
            "memory_mib": resident_mib(hub.pid),
            "pages": [asdict(each) for each in asked],
        }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--startds", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--requests", type=int, default=50)
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever ends it wants its processes ended too
    names = [f"site-{number:02}" for number in range(told.sites)]
    with tempfile.TemporaryDirectory() as home:
        directory = Path(home)
        with plane(directory / "plane", programs(), PACE) as made, made.client() as client:
            filled(made, client, told.startds, told.nodes)
            result = shown(directory, made.kubeconfig(SUBJECT), names, told.startds, told.requests)
    print(f"hub's memory: {result['memory_mib']} MiB\n\n| page | on the wire | median | worst |\n|---|---|---|---|")
    pages = result["pages"]
    assert isinstance(pages, list)
    for page in (Asked(**each) for each in pages):
        print(f"| `{page.page}` | {page.kib} KiB | {page.median_ms} ms | {page.worst_ms} ms |")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
