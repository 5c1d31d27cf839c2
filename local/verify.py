"""What only a real cloud can confirm, confirmed there: `make verify-cloud STACK=…`; docs/real-cloud.md lists it.

For each job pool of each site of a stack that is up, one pod with a startd's own requests, tolerations and affinity is
made beside the startds. The autoscaler must make a node for it, and the node be what the stack promised of it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import commands
from local.paths import CHECKOUT
from local.refusal import Refusal
from services.vacuum.quantities import quantity

KUBECTL_SECONDS = 60.0
NODE_SECONDS = 1200.0  # for an autoscaler to make a node, and for images
PROBE = "verify-cloud"
MIB = 2**20
# Says nothing for so long; the kernel's signs of life, every tcp_keepalive_time, are all that a NAT sees.
IDLE = """\
import socket, sys, time
host, port, minutes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
peer = socket.create_connection((host, port), timeout=60)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
peer.settimeout(minutes * 60)
began = time.monotonic()
try:
    heard = peer.recv(1)
except TimeoutError as error:
    sys.exit(0 if error.errno is None else "forgotten on the way: " + str(error))
except OSError as error:
    sys.exit(f"cut after {time.monotonic() - began:.0f} s: {error}")
if not heard:
    sys.exit(f"closed by {host} itself after {time.monotonic() - began:.0f} s: name one that does not, by PEER=")
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One site of the stack, as its outputs tell of it."""

    name: str
    namespace: str
    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None, seconds: float = KUBECTL_SECONDS) -> str:
        """What kubectl says in the site's namespace.

        Raises:
            Refusal: it failed.
        """
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *words]
        return commands.output(command, what=f"site {self.name}: kubectl {words[0]}", seconds=seconds, stdin=stdin)

    def get(self, *words: str) -> dict[str, Any]:
        """An object, or a list of them."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "--output=json"))
        return found


def shortcomings(node: Mapping[str, Any], pool: Mapping[str, Any]) -> Iterator[str]:
    """In what a node falls short of what the stack promised of its pool, a sentence each.

    Args:
        node: the Kubernetes object.
        pool: as the ConfigMap node-pools tells of it.
    """
    has = {name: float(quantity(text)) for name, text in node["status"]["allocatable"].items()}
    for what, name, promised, unit in (
        ("cores", "cpu", pool["cores"], 1.0),
        ("MiB of memory", "memory", pool["memoryMib"], MIB),
        ("MiB of local disk", "ephemeral-storage", pool["diskMib"], MIB),
        ("pods", "pods", pool["pods"], 1.0),
    ):
        if has[name] / unit < promised:
            yield f"{promised} {what} were promised of a node; it has {has[name] / unit:.1f}."
    labels = node["metadata"]["labels"]
    for label, value in pool["selector"].items():
        if labels.get(label) != value:
            yield f"the label {label} should be {value}; it is {labels.get(label)}."
    bears = {(taint["key"], taint.get("value", ""), taint["effect"]) for taint in node["spec"].get("taints", ())}
    for taint in pool["taints"]:
        if (taint["key"], taint["value"], taint["effect"]) not in bears:
            yield f"it does not bear the taint {taint['key']}={taint['value']}:{taint['effect']}."


def probe(startds: Mapping[str, Any], pool: Mapping[str, Any], command: list[str]) -> dict[str, Any]:
    """A pod that goes where startds go, asks for what a startd asks for, and runs that command in its image."""
    template = startds["spec"]["template"]
    spec, (startd, *_) = template["spec"], template["spec"]["containers"]
    container = {key: startd[key] for key in ("image", "resources", "securityContext") if key in startd}
    kept = {key: spec[key] for key in ("affinity", "tolerations", "securityContext", "imagePullSecrets") if key in spec}
    labels = {**template["metadata"].get("labels", {}), PROBE: pool["name"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{PROBE}-{pool['name']}", "labels": labels},
        "spec": {
            **kept,
            "nodeSelector": pool["selector"],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [{**container, "name": PROBE, "command": command}],
        },
    }


@contextmanager
def sites(stack: str) -> Iterator[list[Site]]:
    """The sites of a stack, with their kubeconfigs in a directory of this machine while the block lasts."""
    told = commands.output(
        ["pulumi", "stack", "output", "--json", "--show-secrets", "--stack", stack, "--cwd", str(CHECKOUT)],
        what=f"pulumi stack output of stack {stack}",
        seconds=KUBECTL_SECONDS,
    )
    with tempfile.TemporaryDirectory(prefix="verify-") as directory:
        found = []
        for name, site in json.loads(told).get("sites", {}).items():
            file = Path(directory) / name
            file.touch(mode=0o600)
            file.write_text(site["cluster"]["kubeconfig"])
            found.append(Site(name=name, namespace=site["namespace"], kubeconfig=file))
        yield found


def verify(site: Site, peer: str | None, minutes: float) -> Iterator[tuple[str, str]]:
    """What was looked at, and what came of it: an empty text when all is well."""
    startds = site.get("startdset", "startds")
    for pool in json.loads(site.get("configmap", "node-pools")["data"]["pools.json"]):
        if pool["retiring"]:
            continue
        host, _, port = (peer or "").rpartition(":")
        command = ["python3", "-c", IDLE, host, port, str(minutes)] if peer else ["sleep", "600"]
        made = probe(startds, pool, command)
        name = made["metadata"]["name"]
        before = len(site.get("nodes", "--selector", _selector(pool))["items"])
        site.kubectl("delete", "pod", name, "--ignore-not-found")
        began = time.monotonic()
        try:
            site.kubectl("create", "--filename=-", stdin=json.dumps(made))
            site.kubectl(
                "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Running",
                f"--timeout={NODE_SECONDS:.0f}s", seconds=NODE_SECONDS + KUBECTL_SECONDS,
            )  # fmt: skip
            waited = f"pool {pool['name']}: from {before} nodes a startd runs after {time.monotonic() - began:.0f} s"
            yield waited, ""
            node = site.get("node", site.get("pod", name)["spec"]["nodeName"])
            yield f"pool {pool['name']}: its node is as promised", " ".join(shortcomings(node, pool))
            if peer:
                yield f"pool {pool['name']}: an idle connection lives {minutes:g} minutes", _ended(site, name, minutes)
        except Refusal as refusal:
            yield f"pool {pool['name']}: a startd finds a node", str(refusal)
        finally:
            site.kubectl("delete", "pod", name, "--ignore-not-found", "--wait=false")


def _ended(site: Site, name: str, minutes: float) -> str:
    seconds = minutes * 60 + KUBECTL_SECONDS
    try:
        site.kubectl(
            "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded",
            f"--timeout={seconds:.0f}s", seconds=seconds + KUBECTL_SECONDS,
        )  # fmt: skip
    except Refusal:
        return site.kubectl("logs", name).strip() or "it did not end well, and said nothing."
    return ""


def _selector(pool: Mapping[str, Any]) -> str:
    return ",".join(f"{label}={value}" for label, value in pool["selector"].items())


def _told(site: Site, peer: str | None, minutes: float) -> Iterator[tuple[str, str]]:
    """The same, of a site that may be away, or that knows of no pools."""
    try:
        yield from verify(site, peer, minutes)
    except Refusal as refusal:
        yield "its set of startds and its pools", str(refusal)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m local.verify", description=__doc__)
    parser.add_argument("stack")
    parser.add_argument("--peer", help="HOST:PORT outside, which leaves an idle connection open")
    parser.add_argument("--minutes", type=float, default=45, help="that a connection is left idle")
    options = parser.parse_args()
    wrong = 0
    try:
        with sites(options.stack) as found:
            for site in found:
                for what, problem in _told(site, options.peer, options.minutes):
                    wrong += bool(problem)
                    sys.stdout.write(
                        f"{'NO ' if problem else 'yes'}  {site.name}  {what}{problem and f': {problem}'}\n"
                    )
                    sys.stdout.flush()
    except Refusal as refusal:
        sys.exit(f"error: {refusal}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
