"""The demonstration's software and inputs, served over HTTP in the cluster: stands in for the experiment's servers."""

import json
from collections.abc import Mapping
from pathlib import Path

from local import commands
from local.progress import Progress

NAMESPACE = "pool"
NAME = "origin"
PORT = 8000  # behind port 80 of its Service: squids reach servers at 80 and 8000 alone
REPOSITORY = "software.atlas-sites.example"
URL = f"http://{NAME}.{NAMESPACE}.svc.cluster.local"

READY_SECONDS = 180
ASK_SECONDS = 30


def deploy(kubeconfig: Path, images: Mapping[str, str], progress: Progress, *, namespace: str = NAMESPACE) -> None:
    """Brings the server up and waits until it answers; changes nothing when it is there already.

    Raises:
        Refusal: the cluster does not take it, or it is not ready in time.
    """
    progress.note(f"software repository: {URL}/{REPOSITORY}/")
    _kubectl(kubeconfig, "apply", "--filename=-", stdin=json.dumps(manifest(images["repository"], namespace)))
    _kubectl(
        kubeconfig,
        "rollout", "status", f"deployment/{NAME}", f"--namespace={namespace}", f"--timeout={READY_SECONDS}s",
        seconds=READY_SECONDS + ASK_SECONDS,
    )  # fmt: skip


def manifest(image: str, namespace: str) -> dict[str, object]:
    """The namespace, if nobody made it yet, the Deployment and its Service, as a Kubernetes List."""
    labels = {"app.kubernetes.io/name": NAME}
    shared = {"name": NAME, "namespace": namespace, "labels": {**labels, "app.kubernetes.io/part-of": "atlas-sites"}}
    container = {
        "name": NAME,
        "image": image,
        "ports": [{"name": "http", "containerPort": PORT}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 2},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  the container's own
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 33,
            "runAsGroup": 33,
            "fsGroup": 33,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": shared,
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": shared,
                "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
            },
        ],
    }


def _kubectl(kubeconfig: Path, *words: str, seconds: float = ASK_SECONDS, stdin: str | None = None) -> str:
    return commands.output(
        ["kubectl", f"--kubeconfig={kubeconfig}", *words],
        what=f"software repository: kubectl {words[0]}",
        seconds=seconds,
        stdin=stdin,
    )
