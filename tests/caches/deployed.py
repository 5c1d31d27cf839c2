"""The site's own squids on a cluster, as the program declares them, with a stand-in for the experiment's servers.

What is applied is what the components hand to the engine: the same Deployments, Services, ConfigMap and policies.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.namespaces import Namespaces, NamespacesArgs
from components.squid import Squids, SquidsArgs
from local import commands
from local.node.layout import NODE_ADDRESS
from tests.program.monitor import deploy

SITE = "squid-test"
ORIGIN = f"origin.{SITE}.svc.cluster.local"
SECONDS = 300
KUBERNETES = "kubernetes:"

Json = dict[str, Any]


def objects(
    image: str, *, replicas: int = 3, memory_mib: int = 128, destinations: Sequence[str] = (ORIGIN,)
) -> list[Json]:
    """Namespaces and squids of a site of three, as manifests."""
    namespaces = NamespacesArgs(site=SITE, quota={"pods": "50"}, collector="pool.example.org:9618")
    squids = SquidsArgs(
        site=SITE, namespace=SITE, priority=f"{SITE}-service", image=image, replicas=replicas,
        destinations=destinations, clients=["10.213.0.0/24"], cache_mib=256, memory_mib=memory_mib,
    )  # fmt: skip

    def both() -> None:
        Namespaces(f"{SITE}-namespaces", namespaces)
        Squids(f"{SITE}-squid", squids)

    declared = [each for each in deploy(both).resources if each.type.startswith(KUBERNETES)]
    return [
        {"apiVersion": _version(each.type), "kind": each.type.rpartition(":")[2], **each.inputs} for each in declared
    ]


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

    def settled(self, replicas: int = 3) -> None:
        """Waits until each squid is the newest and answers."""
        for index in range(replicas):
            self.kubectl("rollout", "status", f"deployment/squid-{index}", f"--timeout={SECONDS}s")

    def addresses(self) -> dict[str, str]:
        """Of each Service, by the host name that clients in the cluster use."""
        found = json.loads(self.kubectl("get", "services", "-o", "json"))["items"]
        return {f"{each['metadata']['name']}.{SITE}.svc.cluster.local": each["spec"]["clusterIP"] for each in found}

    def remove(self) -> None:
        """Takes all of it away."""
        self.kubectl("delete", "namespace", SITE, f"{SITE}-system", f"--timeout={SECONDS}s")
        self.kubectl("delete", "priorityclass", f"{SITE}-service")

    def _kubectl(self, *words: str, stdin: str | None = None) -> str:
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *words]
        return commands.output(command, what=f"kubectl {' '.join(words[:2])}", seconds=SECONDS, stdin=stdin)


def _version(kind: str) -> str:
    """The API version in a Pulumi type, as in kubernetes:apps/v1:Deployment."""
    group, _, version = kind.removeprefix(KUBERNETES).rpartition(":")[0].partition("/")
    return version if group == "core" else f"{group}/{version}"
