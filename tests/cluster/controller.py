"""The controller as a process of this machine against the real API server, with the rights that a site gives it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from components.vacuum import rules
from local.paths import CHECKOUT
from tests.cluster.cluster import BOUND, WAIT_SECONDS, Cluster

NAMESPACE = "t-vacuum-api"
CRD = CHECKOUT / "components" / "startdset_crd.yaml"
CRD_NAME = "startdsets.vacuum.atlas-sites.io"
LEASE_SECONDS = 3.0  # so long a test waits for the next one to lead when a controller was killed
RULES = [
    {
        "apiGroups": rule.api_groups,
        "resources": rule.resources,
        "verbs": rule.verbs,
        **({"resourceNames": rule.resource_names} if rule.resource_names else {}),
    }
    for rule in rules()
]


T = TypeVar("T")


@dataclass
class Site:
    """A namespace, what is in it, and the controller for it."""

    cluster: Cluster
    image: str
    kubeconfig: Path
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def eventually(self, look: Callable[[], T], what: str) -> T:
        """What is looked for, once it is there."""
        return self.cluster.eventually(look, what, NAMESPACE)

    def start(self, lease_seconds: float = LEASE_SECONDS) -> None:
        with socket.socket() as free, self.log.open("ab") as log:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
            free.close()
            lease = ("--lease-seconds", f"{lease_seconds}")
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.vacuum", "--kubeconfig", self.kubeconfig, *lease],
                cwd=CHECKOUT,
                env={**os.environ, "PORT": str(port)},
                stdout=log,
                stderr=log,
            )

    def stop(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=WAIT_SECONDS)
            self.process = None

    def get(self, *words: str) -> Any:
        return json.loads(self.cluster.kubectl("get", "-n", NAMESPACE, "-o", "json", *words))

    def pods(self) -> list[dict[str, Any]]:
        return list(self.get("pods")["items"])

    def status(self) -> dict[str, Any]:
        return dict(self.get("startdset", "startds").get("status", {}))

    def spec(self, script: str, **more: Any) -> dict[str, Any]:
        return {
            "limits": {"pods": 3, "cores": 8, "memoryMib": 1024},
            "window": {"initial": 3},
            "backoff": {"baseSeconds": 3600, "capSeconds": 3600},
            "fizzleSeconds": 3600,
            "startSeconds": WAIT_SECONDS,
            "drain": {"seconds": 5},
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 5,
                    "containers": [
                        {
                            "name": "startd",
                            "image": self.image,
                            "imagePullPolicy": "Never",
                            "command": ["/busybox", "sh", "-c", script],
                            "resources": {
                                "limits": {"cpu": "1", "memory": "32Mi"},
                                "requests": {"cpu": "10m", "memory": "16Mi"},
                            },
                        }
                    ],
                }
            },
            **more,
        }

    def apply(self, spec: dict[str, Any]) -> None:
        meta = {"name": "startds", "namespace": NAMESPACE}
        body = {"apiVersion": "vacuum.atlas-sites.io/v1alpha1", "kind": "StartdSet", "metadata": meta, "spec": spec}
        self.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def delete(self) -> None:
        self.cluster.kubectl("delete", "startdset", "startds", "-n", NAMESPACE, BOUND)


STAYS = "trap 'exit 0' TERM; while :; do /busybox sleep 1; done"
WORKS = (
    """printf '200 worked\\n{"code":200,"reason":"Worked","jobsStarted":1}' > /dev/termination-log; /busybox sleep 1"""
)
FINDS_NOTHING = "printf '300 no work' > /dev/termination-log; exit 3"
