"""What the portal takes to show a stack: 50 sites with 10,000 startds, over real HTTP.

    .venv/bin/python benchmarks/portal.py [--sites 50] [--startds 10000] [--requests 50]

The hub is a process of its own, with its file on disk; each site pushes its report as the pusher does, packed, and then
each page is asked for, packed as a browser asks. Prints two tables and writes JSON to benchmarks/results/.
"""

import argparse
import gzip
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))  # run as a file: the checkout is not a distribution

from services.portal.gate import digest  # noqa: E402  needs the path above
from tests.services.portal import report, startd, startd_set  # noqa: E402

RESULTS = CHECKOUT / "benchmarks/results/portal.json"
TOKEN = "t" * 43
DOING = ("proven", "proven", "proven", "unproven", "waiting")
READY_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One page: KiB on the wire, and milliseconds until the whole of it was there."""

    page: str
    kib: float
    median_ms: float
    worst_ms: float


def free_ports(number: int) -> Sequence[int]:
    """Ports of the loopback that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    found = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return found


def content(site: str, startds: int) -> bytes:
    """A site's report, as the pusher packs it."""
    known = [startd(number, DOING[number % len(DOING)], node=f"node-{number % 97}") for number in range(1, startds + 1)]
    events = [
        {
            "at": time.time() - number,
            "warning": True,
            "about": "StartdSet startds",
            "reason": "QuotaFull",
            "message": "m",
        }
        for number in range(20)
    ]
    running = startds * 4 // 5
    made = report(site, startds=known, sets=[startd_set(running=running)], events=events, time=time.time())
    return gzip.compress(made.written(), 5)


def ask(client: httpx.Client, page: str, requests: int) -> Asked:
    """Asks for a page, again and again."""
    spent, size = [], 0
    for _ in range(requests):
        began = time.perf_counter()
        with client.stream("GET", page) as response:
            response.raise_for_status()
            size = sum(len(part) for part in response.iter_raw())
        spent.append(1000 * (time.perf_counter() - began))
    return Asked(
        page=page,
        kib=round(size / 1024, 1),
        median_ms=round(statistics.median(spent), 1),
        worst_ms=round(max(spent), 1),
    )


def resident_mib(pid: int) -> int:
    """Memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 2**20


def measure(sites: int, startds: int, requests: int) -> dict[str, object]:
    """Starts a hub, pushes to it, asks it."""
    names = [f"site-{number:02}" for number in range(sites)]
    push, pages, health = free_ports(3)
    with tempfile.TemporaryDirectory() as directory:
        tokens = Path(directory) / "sites"
        tokens.mkdir()
        for name in names:
            (tokens / name).write_text(digest(TOKEN + name))
        hub = subprocess.Popen(
            [sys.executable, "-m", "services.portal"],
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
            env={
                **os.environ,
                "SITES": ",".join(names),
                "STORE": f"{directory}/portal.db",
                "TOKENS": str(tokens),
                "PUSH_PORT": str(push),
                "PAGES_PORT": str(pages),
                "PORT": str(health),
            },
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{pages}", trust_env=False, timeout=30) as client:
                wait(health)
                packed = {name: content(name, startds // sites) for name in names}
                began = time.perf_counter()
                for name, body in packed.items():
                    headers = {"Authorization": f"Bearer {TOKEN}{name}", "Content-Encoding": "gzip"}
                    url = f"http://127.0.0.1:{push}/api/v1/sites/{name}"
                    assert client.put(url, content=body, headers=headers).status_code == httpx.codes.NO_CONTENT
                pushed = 1000 * (time.perf_counter() - began) / sites
                asked = [
                    ask(client, page, requests)
                    for page in ("/", "/?sort=-running", f"/sites/{names[0]}", f"/sites/{names[0]}/sets/startds")
                ]
                memory = resident_mib(hub.pid)
        finally:
            hub.terminate()
            hub.wait(30)
    return {
        "sites": sites,
        "startds": startds,
        "push_ms": round(pushed, 1),
        "push_kib": round(max(map(len, packed.values())) / 1024, 1),
        "memory_mib": memory,
        "pages": [asdict(each) for each in asked],
    }


def wait(port: int) -> None:
    """Until the hub answers."""
    end = time.monotonic() + READY_SECONDS
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=5).raise_for_status()
        except httpx.HTTPError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=50)
    parser.add_argument("--startds", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=50)
    told = parser.parse_args()
    # All startds over all sites, and all of them on one.
    results = [
        measure(told.sites, told.startds, told.requests),
        measure(1, told.startds, told.requests),
    ]
    print("| sites | startds | a push | packed | hub's memory |\n|---|---|---|---|---|")
    for each in results:
        print(
            f"| {each['sites']} | {each['startds']:,} | {each['push_ms']} ms | {each['push_kib']} KiB"
            f" | {each['memory_mib']} MiB |"
        )
    print("\n| sites | page | on the wire | median | worst |\n|---|---|---|---|---|")
    for each in results:
        pages = each["pages"]
        assert isinstance(pages, list)
        for page in pages:
            print(
                f"| {each['sites']} | `{page['page']}` | {page['kib']} KiB | {page['median_ms']} ms"
                f" | {page['worst_ms']} ms |"
            )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
