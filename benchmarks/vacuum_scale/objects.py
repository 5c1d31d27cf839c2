"""The objects that are sent to the API server: nodes, the pod that everybody makes, and what asks for many of it."""

from typing import Any

Json = dict[str, Any]

NAMESPACE = "default"
NAME = "startds"
LABEL = {"app": NAME}
END = "scale.atlas-sites.io/end"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SETS = f"/apis/vacuum.atlas-sites.io/v1alpha1/namespaces/{NAMESPACE}/startdsets"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
REPLICA_SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"
# Of what a Job is to complete: it never does.
MANY = 1_000_000


def node(number: int) -> Json:
    """A fake node; kwok says what it holds."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"}}


def pod_spec(restart: str = "Never") -> Json:
    """About as large as the site's own startds: what it weighs is what a controller reads."""
    names = ("SITE", "COLLECTOR", "TRUST_DOMAIN", "CORES", "MEMORY", "PROXY", "TOKEN", "SQUIDS", "DRAIN_SECONDS")
    return {
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 60,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [
            {
                "name": "startd",
                "image": f"registry.example.org/atlas/startd@sha256:{'0' * 64}",
                "env": [{"name": name, "value": "a value of usual length"} for name in names],
                "resources": {
                    "requests": {"cpu": "1", "memory": "1Gi"},
                    "limits": {"cpu": "1", "memory": "2Gi"},
                },
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": f"volume-{n}", "mountPath": f"/volume/{n}"} for n in range(4)],
            }
        ],
        "volumes": [{"name": f"volume-{n}", "emptyDir": {}} for n in range(4)],
    }


def template(restart: str = "Never") -> Json:
    """The pod, as others make it."""
    return {"metadata": {"labels": LABEL}, "spec": pod_spec(restart)}


def pod(name: str) -> Json:
    """The pod, as a loop makes it."""
    return {"apiVersion": "v1", "kind": "Pod", **template(), "metadata": {"name": name, "labels": LABEL}}


def startdset(pods: int, window: int | None) -> Json:
    """A set of so many; its window is open as far as that, or as it is by default."""
    return {
        "apiVersion": "vacuum.atlas-sites.io/v1alpha1",
        "kind": "StartdSet",
        "metadata": {"name": NAME},
        "spec": {
            "limits": {"pods": pods},
            "drain": {"seconds": 60},
            "template": template(),
            **({"window": {"initial": window, "growth": 16, "maximum": window}} if window else {}),
        },
    }


def job() -> Json:
    """A Job without a pod yet."""
    spec = {"parallelism": 0, "completions": MANY, "backoffLimit": MANY, "template": template()}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": NAME}, "spec": spec}


def replica_set() -> Json:
    """A ReplicaSet without a pod yet."""
    spec = {"replicas": 0, "selector": {"matchLabels": LABEL}, "template": template("Always")}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": NAME}, "spec": spec}
