"""What the pusher takes to tell the hub of 10,000 startds that come and go.

    .venv/bin/python -m benchmarks.pusher [--startds 100 10000] [--changes 20] [--reports 20]

The pusher is a process of its own with the real hub behind it. The API server is a stand-in on loopback: by TLS it
sends pods as large as startds' are, page by page, and then a watch in which so many a second change, or end and are
made anew; twice a minute it has forgotten what was before, so that all is read anew. Prints a table and writes JSON to
benchmarks/results/.
"""

import argparse
import asyncio
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from multiprocessing import get_context
from pathlib import Path

import httpx
from aiohttp import web

from benchmarks.portal import free_ports, resident_mib, wait
from benchmarks.vacuum_scale.objects import pod_spec
from local.authority import SERVER, Authority, Leaf, elliptic, pem, write
from local.paths import CHECKOUT
from services.kube import Json
from services.portal.gate import digest
from services.pusher.look import samples
from services.times import timestamp
from services.vacuum.model import OUTCOME_FINALIZER, SET_LABEL
from services.vacuum.objects import pods_path, sets_path
from tests.services.portal import TOKEN, startd_set

RESULTS = Path(__file__).resolve().parent / "results/pusher.json"
HOST, NAMESPACE, SITE = "127.0.0.1", "site", "hall"
DAY = timedelta(days=1)
# Between two reports, and after which everything is to be read anew.
SECONDS, FORGET_SECONDS = 5, 25
WAIT_SECONDS = 120.0
TICKS = os.sysconf("SC_CLK_TCK")
# The service as it is, but for where the cluster tells it who it is.
PUSHER = """
import sys
from functools import partial
from pathlib import Path
from services import kube
from services.pusher import main
main.in_cluster = partial(getattr(kube, sys.argv[1]), Path(sys.argv[2]))
main.main()
"""


def pod(number: int, version: int) -> str:
    """A startd's pod as an API server sends it."""
    return POD.replace("NUMBER", str(number)).replace("VERSION", str(version)).replace("NODE", f"node-{number % 997}")


def pod_text() -> str:
    """About as large as on the dev site, 15 KiB: who wrote which field, an init container, what became of all that."""
    now = timestamp(time.time())
    conditions = [
        {"type": word, "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
        for word in ("PodReadyToStartContainers", "Initialized", "ContainersReady", "PodScheduled", "Ready")
    ]
    fields: Json = {f'k:{{"type":"Condition{n}"}}': {".": {}, "f:status": {}, "f:type": {}} for n in range(60)}
    writers = [
        {"manager": writer, "operation": "Update", "apiVersion": "v1", "time": now, "fieldsV1": {"f:status": fields}}
        for writer in ("vacuum", "kubelet")
    ]
    image, container = f"registry.example.org/atlas/startd@sha256:{'0' * 64}", f"containerd://{'0' * 64}"
    startd = {"name": "startd", "state": {"running": {"startedAt": now}}, "image": image, "containerID": container}
    spec = pod_spec()
    before = [{**spec["containers"][0], "name": f"before-{n}"} for n in range(2)]
    return json.dumps(
        {
            "metadata": {
                "name": "startds-NUMBER",
                "namespace": NAMESPACE,
                "uid": "00000000-0000-4000-8000-NUMBER",
                "resourceVersion": "VERSION",
                "creationTimestamp": now,
                "labels": {SET_LABEL: "startds"},
                "finalizers": [OUTCOME_FINALIZER],
                "managedFields": writers,
            },
            "spec": {**spec, "initContainers": before, "nodeName": "NODE"},
            "status": {
                "phase": "Running",
                "conditions": conditions,
                "initContainerStatuses": [{**startd, "name": each["name"]} for each in before],
                "containerStatuses": [startd],
            },
        }
    )


POD = pod_text()


class Cluster:
    """An API server's part in it: pods page by page, and a watch in which they change."""

    def __init__(self, startds: int, changes: int) -> None:
        self._changes = changes
        self._numbers = deque(range(1, startds + 1))
        self._version = 1

    def application(self) -> web.Application:
        """What it answers."""
        made = web.Application()
        made.router.add_get(pods_path(NAMESPACE), self._pods)
        made.router.add_get(sets_path(NAMESPACE), self._sets)
        made.router.add_get(f"/api/v1/namespaces/{NAMESPACE}/events", self._events)
        return made

    async def _events(self, _request: web.Request) -> web.Response:
        return page([])

    async def _sets(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watched(request, float("inf"), lambda: bookmark("1"), 10)
        given = startd_set()
        about = {"name": given["name"], "resourceVersion": "1"}
        return page([json.dumps({"metadata": about, "spec": given, "status": given["status"]})])

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watched(request, FORGET_SECONDS, self._change, 1 / self._changes)
        first, most = int(request.query.get("continue", "0")), int(request.query["limit"])
        numbers = list(self._numbers)[first : first + most]
        onward = str(first + most) if first + most < len(self._numbers) else ""
        return page([pod(number, self._version) for number in numbers], str(self._version), onward)

    def _change(self) -> str:
        """Of four startds three change, and one ends, and another is made."""
        self._version += 1
        if self._version % 4:
            return event("MODIFIED", pod(self._numbers[self._version % len(self._numbers)], self._version))
        gone, new = self._numbers.popleft(), self._numbers[-1] + 1
        self._numbers.append(new)
        return event("DELETED", pod(gone, self._version)) + event("ADDED", pod(new, self._version))

    async def _watched(
        self, request: web.Request, seconds: float, change: Callable[[], str], pause: float
    ) -> web.StreamResponse:
        """Lines until all is forgotten."""
        response = web.StreamResponse()
        await response.prepare(request)
        end = time.monotonic() + seconds
        with suppress(ConnectionError):
            while time.monotonic() < end:
                await response.write(change().encode())
                await asyncio.sleep(pause)
            await response.write(event("ERROR", json.dumps({"code": 410, "reason": "Expired"})).encode())
        return response


def page(items: Sequence[str], version: str = "1", onward: str = "") -> web.Response:
    """Of a list."""
    about = json.dumps({"resourceVersion": version, "continue": onward})
    return web.Response(text=f'{{"items": [{",".join(items)}], "metadata": {about}}}', content_type="application/json")


def event(kind: str, body: str) -> str:
    """Of a watch."""
    return f'{{"type": "{kind}", "object": {body}}}\n'


def bookmark(version: str) -> str:
    """A sign of life."""
    return event("BOOKMARK", json.dumps({"metadata": {"resourceVersion": version}}))


@contextmanager
def cluster(directory: Path, startds: int, changes: int) -> Iterator[int]:
    """The stand-in, in a process of its own, and where a pod finds out who it is; its port."""
    (port,) = free_ports(1)
    authority, key = Authority.ensure("own", directory / "ca.key", directory / "ca.crt", datetime.now(UTC)), elliptic()
    leaf = Leaf(name="api", user="api", usages=(SERVER,), addresses=(IPv4Address(HOST),), life=DAY, renew_before=DAY)
    write(directory / "chain.pem", pem(authority.issue(leaf, key, datetime.now(UTC))) + pem(key))
    (directory / "namespace").write_text(NAMESPACE)
    (directory / "token").write_text("t")
    process = get_context("spawn").Process(target=serve, args=(directory / "chain.pem", port, startds, changes))
    process.start()
    try:
        yield port
    finally:
        process.terminate()
        process.join(WAIT_SECONDS)


def serve(chain: Path, port: int, startds: int, changes: int) -> None:
    """The stand-in's process."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(chain)
    made = Cluster(startds, changes).application()
    web.run_app(made, host=HOST, port=port, ssl_context=tls, print=None, access_log=None, handle_signals=False)


@contextmanager
def program(command: Sequence[object], **environment: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A service, until the end."""
    told = {name: str(value) for name, value in environment.items()}
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], cwd=CHECKOUT, env={**os.environ, **told}, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def seconds_of(pid: int) -> float:
    """CPU time that a process had."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def peak_mib(pid: int) -> int:
    """The most memory that a process ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:"))


def taken(port: int) -> int:
    """How many reports the hub took."""
    try:
        text = httpx.get(f"http://{HOST}:{port}/metrics", trust_env=False, timeout=10).text
    except httpx.HTTPError:
        return 0
    return int(samples(text).get(("pusher_pushes_total", (("code", "204"),)), 0))


def until_taken(port: int, reports: int) -> None:
    """Until the hub has so many."""
    end = time.monotonic() + WAIT_SECONDS
    while taken(port) < reports:
        if time.monotonic() > end:
            raise TimeoutError(f"no {reports} reports were taken in time")
        time.sleep(0.05)


def measure(startds: int, changes: int, reports: int) -> dict[str, float]:
    """Lets the pusher tell so many reports."""
    push, pages, hub_health, health = free_ports(4)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        (directory / "sites").mkdir()
        (directory / "sites" / SITE).write_text(digest(TOKEN))
        (directory / "write").write_text(TOKEN)
        api = stack.enter_context(cluster(directory, startds, changes))
        hub = {"SITES": SITE, "STORE": directory / "portal.db", "TOKENS": directory / "sites", "PORT": hub_health}
        stack.enter_context(program(["-m", "services.portal"], **hub, PUSH_PORT=push, PAGES_PORT=pages))
        wait(hub_health)
        began = time.monotonic()
        told = {
            "SITE": SITE, "ATLAS_SITE": "HALL-PROD", "HUB": f"http://{HOST}:{push}", "TOKEN": directory / "write",
            "CREDENTIALS": f"http://{HOST}:{hub_health}/metrics", "ACCOUNTING": "", "SQUIDS": "",
            "SECONDS": SECONDS, "PORT": health, "KUBERNETES_SERVICE_HOST": HOST, "KUBERNETES_SERVICE_PORT": api,
        }  # fmt: skip
        pusher = stack.enter_context(program(["-c", PUSHER, "in_cluster", directory], **told)).pid
        until_taken(health, 2)
        first, begun, spent = time.monotonic() - began, resident_mib(pusher), seconds_of(pusher)
        held = []
        for count in range(3, reports + 3):
            until_taken(health, count)
            held.append(resident_mib(pusher))
        return {
            "startds": startds,
            "changes_per_second": changes,
            "pod_kib": round(len(pod(1, 1)) / 1024, 1),
            "first_s": round(first - SECONDS, 1),
            "cpu_s_per_report": round((seconds_of(pusher) - spent) / reports, 2),
            "begun_mib": begun,
            "median_mib": statistics.median(held),
            "ended_mib": held[-1],
            "most_mib": peak_mib(pusher),
        }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--startds", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--reports", type=int, default=20)
    asked = parser.parse_args()
    results = [measure(startds, asked.changes, asked.reports) for startds in asked.startds]
    print(
        "| startds | CPU a report | memory at the 2nd report | in the median | at the end | at most |\n"
        "|---|---|---|---|---|---|"
    )
    for each in results:
        print(
            f"| {each['startds']:,} | {each['cpu_s_per_report']} s | {each['begun_mib']} MiB | {each['median_mib']} MiB"
            f" | {each['ended_mib']} MiB | {each['most_mib']} MiB |"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
