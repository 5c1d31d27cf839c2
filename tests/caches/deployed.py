"""The site's own squids on a cluster, as the program declares them, with a stand-in for the experiment's servers.

What is applied is what the components hand to the engine: the same Deployments, Services, ConfigMap and policies.
"""

import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components import naming
from components.namespaces import ORIGIN_PORTS, SQUID_PORT, Namespaces, NamespacesArgs
from components.squid import MEMBER, STATE, Squids, SquidsArgs
from local import commands
from local.node.layout import NODE_ADDRESS
from tests.program.monitor import deploy

SITE = "squid-test"
ORIGIN = f"origin.{SITE}.svc.cluster.local"
REPLICAS = 3
ENDPOINTS = [f"http://{naming.service_host(naming.squid(index), SITE)}:{SQUID_PORT}" for index in range(REPLICAS)]
VIP = f"http://{naming.service_host('squid', SITE)}:{SQUID_PORT}"
PROXIES = f"{'|'.join(ENDPOINTS)};{VIP}"
SECONDS = 300
# A probe that asked a squid while it hung fails only when its own time is out, and takes it out of its Service then.
PROBE_SECONDS = 15

Json = dict[str, Any]


def arguments(image: str) -> SquidsArgs:
    """Three small squids, for whoever is on the local node, that may ask the stand-in alone."""
    return SquidsArgs(
        site=SITE, namespace=SITE, priority=f"{SITE}-service", image=image, replicas=REPLICAS, destinations=[ORIGIN],
        clients=["10.213.0.0/24"], cache_mib=256, memory_mib=128,
    )  # fmt: skip


def objects(squids: SquidsArgs) -> list[Json]:
    """Namespaces and squids of the site, as manifests."""
    namespaces = NamespacesArgs(site=SITE, quota={"pods": "50"}, collector="pool.example.org:9618")

    def both() -> None:
        Namespaces(f"{SITE}-namespaces", namespaces)
        Squids(f"{SITE}-squid", squids)

    return deploy(both).manifests()


def origin(port: int) -> list[Json]:
    """A name in the cluster for a server that listens on this machine."""
    metadata = {"name": "origin", "namespace": SITE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{"name": "http", "port": 80}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "origin"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port}],
            "endpoints": [{"addresses": [str(NODE_ADDRESS)]}],
        },
    ]


def free_port() -> int:
    """One of this machine for a stand-in, of those that squids may reach."""
    for port in ORIGIN_PORTS:
        with suppress(OSError), socket.create_server((str(NODE_ADDRESS), port)):
            return port
    raise OSError(f"ports {ORIGIN_PORTS} of {NODE_ADDRESS} are in use: squids may reach no other")


@dataclass(frozen=True)
class Deployed:
    """The squids of `objects`, in the cluster of a kubeconfig."""

    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What kubectl prints, in the squids' namespace."""
        return self._kubectl(f"--namespace={SITE}", *words, stdin=stdin)

    def apply(self, manifests: Sequence[Json]) -> None:
        """Brings what is there to what is told, the namespaces first."""
        first = [each for each in manifests if each["kind"] == "Namespace"]
        for some in filter(None, (first, [each for each in manifests if each not in first])):
            items = {"apiVersion": "v1", "kind": "List", "items": list(some)}
            self._kubectl("apply", "--filename=-", stdin=json.dumps(items))

    def settled(self) -> None:
        """Waits until each squid is the newest and answers."""
        for index in range(REPLICAS):
            self.kubectl("rollout", "status", f"deployment/squid-{index}", f"--timeout={SECONDS}s")

    def renew(self, manifests: Sequence[Json]) -> None:
        """Has all squids made anew by a change, and waits until no old one is left for clients to cling to."""
        old = [f"pod/{pod['metadata']['name']}" for pod in self.pods()]
        self.apply(manifests)
        self.settled()
        self.kubectl("wait", "--for=delete", *old, f"--timeout={SECONDS}s")

    def lose(self, index: int) -> None:
        """Kills a squid and takes its cache away; the next one is not waited for."""
        self._signal(index, "KILL")
        self.kubectl("delete", "pods", f"--selector={MEMBER}={index}", "--force", "--grace-period=0", "--wait=false")

    def stop(self, index: int) -> None:
        """Has a squid hang."""
        self._signal(index, "STOP")

    def go_on(self, index: int) -> None:
        """Ends that, and waits until the squid answers again, and is known to."""
        self._signal(index, "CONT")
        time.sleep(PROBE_SECONDS)
        self.settled()

    def pods(self) -> list[Json]:
        """The squids' pods, those too that come and go."""
        found: Json = json.loads(self.kubectl("get", "pods", f"--selector={MEMBER}", "-o", "json"))
        return list(found["items"])

    def addresses(self) -> dict[str, str]:
        """Of each Service, by the host name that clients in the cluster use."""
        found = json.loads(self.kubectl("get", "services", "-o", "json"))["items"]
        return {f"{each['metadata']['name']}.{SITE}.svc.cluster.local": each["spec"]["clusterIP"] for each in found}

    def remove(self) -> None:
        """Takes all of it away."""
        self.kubectl("delete", "namespace", SITE, f"{SITE}-system", f"--timeout={SECONDS}s")
        self.kubectl("delete", "priorityclass", f"{SITE}-service")

    def _signal(self, index: int, name: str) -> None:
        send = f"kill -{name} $(<{STATE}/squid.pid)"
        self.kubectl("exec", f"deployment/{naming.squid(index)}", "--container=squid", "--", "bash", "-c", send)

    def _kubectl(self, *words: str, stdin: str | None = None) -> str:
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]
        return commands.output(command, what=f"kubectl {' '.join(words[:2])}", seconds=SECONDS, stdin=stdin)
