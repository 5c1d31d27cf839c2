"""Which client the services should speak to the API server with: the same work by each, on the same API server.

Each client is a process of its own: it lists all pods and keeps of each what a controller keeps, then watches while it
makes and patches pods, eight side by side, and is done when its watch has shown it every one of them. kopf is not
among them: it is a framework around aiohttp that calls handlers, with no list or watch of its own to be timed.

    python3 -m venv CLIENTS
    CLIENTS/bin/pip install --require-hashes -r requirements/benchmarks.txt
    CLIENTS/bin/python -m benchmarks.kube_clients
"""

import argparse
import asyncio
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks.vacuum_scale.objects import NAMESPACE, PODS, Json, pod
from benchmarks.vacuum_scale.plane import DRIVER, plane
from benchmarks.vacuum_scale.programs import programs
from local.paths import CHECKOUT
from services.kube import MERGE_PATCH, PAGE, Api, from_kubeconfig

RESULTS = Path(__file__).resolve().parent / "results"
WORKERS = 8
TIMEOUT_SECONDS = 600.0
PATCH = {"metadata": {"annotations": {"seen": "yes"}}}
# Name, resource version, phase: what stands for all that a controller keeps.
Kept = tuple[str, str, str]
Seen = tuple[str, str]


class Client(ABC):
    """What is timed. Each takes the way that its documentation shows first."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    @abstractmethod
    async def open(self) -> None:
        """Reads the kubeconfig."""

    async def close(self) -> None:  # noqa: B027  most need nothing
        """Closes what does not close itself."""

    @abstractmethod
    async def list(self) -> tuple[list[Kept], str]:
        """What is kept of all pods, and the version to watch from."""

    @abstractmethod
    def watch(self, version: str) -> AsyncGenerator[Seen, None]:
        """Kind and name of each event."""

    @abstractmethod
    async def create(self, body: Json) -> None:
        """Makes a pod."""

    @abstractmethod
    async def patch(self, name: str) -> None:
        """Merges an annotation into it."""


def _kept(raw: Json) -> Kept:
    return raw["metadata"]["name"], raw["metadata"]["resourceVersion"], raw["status"]["phase"]


class Ours(Client):
    """services/kube.py: aiohttp, json of the standard library."""

    async def open(self) -> None:
        self.api = Api(from_kubeconfig(self.kubeconfig))

    async def close(self) -> None:
        await self.api.close()

    async def list(self) -> tuple[list[Kept], str]:
        return await self.api.list(PODS, _kept)

    async def watch(self, version: str) -> AsyncGenerator[Seen, None]:
        async for kind, raw in self.api.watch(PODS, version):
            yield kind, raw["metadata"].get("name", "")

    async def create(self, body: Json) -> None:
        await self.api.create(PODS, body)

    async def patch(self, name: str) -> None:
        await self.api.patch(f"{PODS}/{name}", PATCH)


class Httpx(Client):
    """httpx, json of the standard library."""

    async def open(self) -> None:
        access = from_kubeconfig(self.kubeconfig)
        self.http = httpx.AsyncClient(base_url=access.server, verify=access.tls, timeout=60, trust_env=False)

    def encode(self, body: Json) -> bytes:
        return json.dumps(body).encode()

    def page(self, content: bytes) -> tuple[list[Kept], str, str]:
        """What is kept of a page, how to go on, and the version of the list."""
        page = json.loads(content)
        meta = page["metadata"]
        return [_kept(raw) for raw in page["items"]], meta.get("continue", ""), meta["resourceVersion"]

    def event(self, line: str) -> Seen:
        event = json.loads(line)
        return event["type"], event["object"]["metadata"].get("name", "")

    async def list(self) -> tuple[list[Kept], str]:
        kept: list[Kept] = []
        onward = ""
        while True:
            params = {"limit": str(PAGE)} | ({"continue": onward} if onward else {})
            more, onward, version = self.page((await self.http.get(PODS, params=params)).content)
            kept += more
            if not onward:
                return kept, version

    async def watch(self, version: str) -> AsyncGenerator[Seen, None]:
        async with self.http.stream("GET", PODS, params={"watch": "1", "resourceVersion": version}) as response:
            async for line in response.aiter_lines():
                yield self.event(line)

    async def create(self, body: Json) -> None:
        await self._send("POST", PODS, body, "application/json")

    async def patch(self, name: str) -> None:
        await self._send("PATCH", f"{PODS}/{name}", PATCH, MERGE_PATCH)

    async def _send(self, verb: str, path: str, body: Json, content_type: str) -> None:
        headers = {"Content-Type": content_type}
        (await self.http.request(verb, path, content=self.encode(body), headers=headers)).raise_for_status()


class Msgspec(Httpx):
    """httpx, and msgspec that decodes into what is kept and nothing else."""

    async def open(self) -> None:
        await super().open()
        msgspec: Any = importlib.import_module("msgspec")
        make = msgspec.defstruct
        meta = make("Meta", [("name", str, ""), ("resourceVersion", str, "")])
        listing = make(
            "Listing", [("resourceVersion", str, ""), ("continue_", str, "")], rename={"continue_": "continue"}
        )
        one: Any = make("Pod", [("metadata", meta), ("status", make("Status", [("phase", str, "")]), None)])
        pods: Any = list[one]  # a type that is known at run time only
        self.pages = msgspec.json.Decoder(make("Page", [("metadata", listing), ("items", pods)]))
        self.events = msgspec.json.Decoder(make("Event", [("type", str), ("object", one)]))
        self.encoder = msgspec.json.encode

    def encode(self, body: Json) -> bytes:
        return bytes(self.encoder(body))

    def page(self, content: bytes) -> tuple[list[Kept], str, str]:
        page = self.pages.decode(content)
        kept = [(one.metadata.name, one.metadata.resourceVersion, one.status.phase) for one in page.items]
        return kept, page.metadata.continue_, page.metadata.resourceVersion

    def event(self, line: str) -> Seen:
        event = self.events.decode(line)
        return event.type, event.object.metadata.name


class KubernetesAsyncio(Client):
    """kubernetes-asyncio: aiohttp and generated models."""

    async def open(self) -> None:
        self.module: Any = importlib.import_module("kubernetes_asyncio")
        await self.module.config.load_kube_config(config_file=str(self.kubeconfig))
        self.core = self.module.client.CoreV1Api(self.module.client.ApiClient())

    async def close(self) -> None:
        await self.core.api_client.close()

    async def list(self) -> tuple[list[Kept], str]:
        kept: list[Kept] = []
        onward: dict[str, str] = {}
        while True:
            page = await self.core.list_namespaced_pod(NAMESPACE, limit=PAGE, **onward)
            kept += [(one.metadata.name, one.metadata.resource_version, one.status.phase) for one in page.items]
            if not page.metadata._continue:  # noqa: SLF001  the generated name of a public field
                return kept, page.metadata.resource_version
            onward = {"_continue": page.metadata._continue}  # noqa: SLF001

    async def watch(self, version: str) -> AsyncGenerator[Seen, None]:
        watch = self.module.watch.Watch()
        async for event in watch.stream(self.core.list_namespaced_pod, NAMESPACE, resource_version=version):
            yield event["type"], event["object"].metadata.name

    async def create(self, body: Json) -> None:
        await self.core.create_namespaced_pod(NAMESPACE, body)

    async def patch(self, name: str) -> None:
        await self.core.patch_namespaced_pod(name, NAMESPACE, PATCH, _content_type=MERGE_PATCH)


class Kr8s(Client):
    """kr8s: httpx and boxed dictionaries."""

    async def open(self) -> None:
        kr8s: Any = importlib.import_module("kr8s.asyncio")
        self.pod: Any = importlib.import_module("kr8s.asyncio.objects").Pod
        self.api = await kr8s.api(kubeconfig=str(self.kubeconfig), namespace=NAMESPACE)

    async def list(self) -> tuple[list[Kept], str]:
        # It tells no version of the list; its watch begins with all that there is.
        return [_kept(one.raw) async for one in self.api.get("pods", namespace=NAMESPACE)], ""

    async def watch(self, version: str) -> AsyncGenerator[Seen, None]:
        del version
        async for kind, one in self.api.watch("pods", namespace=NAMESPACE):
            yield kind, one.name

    async def create(self, body: Json) -> None:
        await (await self.pod(body, namespace=NAMESPACE, api=self.api)).create()

    async def patch(self, name: str) -> None:
        await (await self.pod({"metadata": {"name": name}}, namespace=NAMESPACE, api=self.api)).patch(PATCH)


CLIENTS: dict[str, Callable[[Path], Client]] = {
    "aiohttp, json (ours)": Ours,
    "httpx, json": Httpx,
    "httpx, msgspec": Msgspec,
    "kubernetes-asyncio": KubernetesAsyncio,
    "kr8s": Kr8s,
}


async def work(client: Client, name: str, made: int) -> Json:
    """What one client does, and what that took."""
    await client.open()
    start = _now()
    listed, version = await client.list()
    list_took = _since(start)
    names = [f"{name}-{number}" for number in range(made)]
    awaited = {("ADDED", each) for each in names} | {("MODIFIED", each) for each in names}

    async def follow() -> None:
        async for event in client.watch(version):
            awaited.discard(event)
            if not awaited:
                return

    start = _now()
    following = asyncio.create_task(follow())
    await _side_by_side(names, lambda each: client.create(pod(each)))
    await _side_by_side(names, client.patch)
    await following
    writes_took = _since(start)
    await client.close()
    return {"listed": len(listed), "list": list_took, "writes": writes_took, "peakMiB": _peak()}


async def _side_by_side(names: Sequence[str], one: Callable[[str], Awaitable[None]]) -> None:
    waiting = iter(names)

    async def some() -> None:
        for name in waiting:
            await one(name)

    await asyncio.gather(*(some() for _ in range(WORKERS)))


def _now() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _since(start: tuple[float, float]) -> dict[str, float]:
    return {"seconds": time.monotonic() - start[0], "cpu": time.process_time() - start[1]}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.kube_clients", description=__doc__)
    parser.add_argument("--pods", type=int, default=5_000, help="that are there to be listed")
    parser.add_argument("--made", type=int, default=1_000, help="that each client makes and patches")
    parser.add_argument("--client", choices=list(CLIENTS), help=argparse.SUPPRESS)
    parser.add_argument("--kubeconfig", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.client:
        client = CLIENTS[options.client](options.kubeconfig)
        name = f"made-{list(CLIENTS).index(options.client)}"
        sys.stdout.write(json.dumps(asyncio.run(work(client, name, options.made))) + "\n")
        return
    rows: list[Json] = []
    home = tempfile.TemporaryDirectory(prefix="kube-clients-")
    # Without nodes all pods stay Pending: only the clients write.
    with home, plane(Path(home.name) / "plane", programs(), None) as made, made.client() as driver:
        with ThreadPoolExecutor(WORKERS) as workers:
            for answer in workers.map(lambda n: driver.post(PODS, json=pod(f"old-{n}")), range(options.pods)):
                answer.raise_for_status()
        for name in CLIENTS:
            rows.append({"client": name, **_run(name, made.kubeconfig(DRIVER), options.made)})
            sys.stdout.write(f"{_line(rows[-1], options.made)}\n")
            sys.stdout.flush()
    RESULTS.mkdir(exist_ok=True)
    whole = {"pods": options.pods, "made": options.made, "rows": rows}
    (RESULTS / "kube-clients.json").write_text(json.dumps(whole, indent=1) + "\n")


def _run(name: str, kubeconfig: Path, made: int) -> Json:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.kube_clients", "--client", name),
            *("--kubeconfig", str(kubeconfig), "--made", str(made)),
        ],
        cwd=CHECKOUT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _line(row: Json, made: int) -> str:
    return (
        f"{row['client']:20} {row['listed']} listed in {row['list']['seconds']:.1f} s, CPU {row['list']['cpu']:.2f} s; "
        f"{2 * made} writes watched in {row['writes']['seconds']:.1f} s, CPU {row['writes']['cpu']:.2f} s; "
        f"peak {row['peakMiB']:.0f} MiB"
    )


if __name__ == "__main__":
    main()
