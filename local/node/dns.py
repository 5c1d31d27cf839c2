"""The cluster's DNS: its objects, and the question that shows that it works."""

import secrets
import socket
import struct
from ipaddress import IPv4Address

from local.node.layout import API_SERVICE_ADDRESS, CLUSTER_DOMAIN, DNS_SERVICE_ADDRESS

NAMESPACE = "kube-system"
PORT = 53
HEALTH_PORT = 8080
READY_PORT = 8181
ANSWER_SECONDS = 1.0
LABELS = {"k8s-app": "kube-dns"}
# No forwarding: a node of this kind has no names but its own, and a query for another is answered at once.
COREFILE = f""".:{PORT} {{
  errors
  health :{HEALTH_PORT}
  ready :{READY_PORT}
  kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
    pods insecure
    ttl 5
  }}
  cache 5
}}
"""


def objects(image: str) -> list[dict[str, object]]:
    """What is applied: CoreDNS with the Service that kubelet tells every pod of."""
    meta = {"name": "coredns", "namespace": NAMESPACE, "labels": LABELS}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role["name"]},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role["name"]},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": NAMESPACE}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": LABELS},
                "template": {
                    # A Corefile that changed takes effect through new pods.
                    "metadata": {"labels": LABELS, "annotations": {"atlas-sites/corefile": COREFILE}},
                    "spec": _pod(image),
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**meta, "name": "kube-dns"},
            "spec": {
                "clusterIP": str(DNS_SERVICE_ADDRESS),
                "selector": LABELS,
                "ports": [
                    {"name": "dns", "port": PORT, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": PORT, "protocol": "TCP"},
                ],
            },
        },
    ]


def _pod(image: str) -> dict[str, object]:
    return {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "containers": [
            {
                "name": "coredns",
                "image": image,
                "args": ["-conf", "/etc/coredns/Corefile"],
                "resources": {"requests": {"cpu": "50m", "memory": "40Mi"}, "limits": {"memory": "170Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                "readinessProbe": {"httpGet": {"path": "/ready", "port": READY_PORT}, "periodSeconds": 2},
                "livenessProbe": {"httpGet": {"path": "/health", "port": HEALTH_PORT}},
                "volumeMounts": [{"name": "configuration", "mountPath": "/etc/coredns"}],
            }
        ],
        "volumes": [{"name": "configuration", "configMap": {"name": "coredns"}}],
    }


def works() -> bool:
    """Whether the DNS Service, asked from this machine, knows the API server's name.

    A right answer shows more than a Ready pod does: the pod network, kube-proxy and CoreDNS, each as it is now.
    """
    number = secrets.randbelow(2**16)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.settimeout(ANSWER_SECONDS)
            channel.connect((str(DNS_SERVICE_ADDRESS), PORT))
            channel.send(question(f"kubernetes.default.svc.{CLUSTER_DOMAIN}", number))
            return answer(channel.recv(512), number) == API_SERVICE_ADDRESS
    except OSError:
        return False


def question(name: str, number: int) -> bytes:
    """A DNS query (RFC 1035) for the address of a name."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def answer(message: bytes, number: int) -> IPv4Address | None:
    """The address in a DNS response to query `number` with one answer; none if it holds no such thing."""
    if len(message) < 16 or struct.unpack("!H", message[:2])[0] != number:
        return None
    _, flags, _, answers, _, _ = struct.unpack("!6H", message[:12])
    return IPv4Address(message[-4:]) if answers == 1 and flags & 0x000F == 0 and flags & 0x8000 else None
