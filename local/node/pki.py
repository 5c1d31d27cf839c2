"""The node's certificates: one authority, a leaf for each component, and the kubeconfigs that carry them."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.authority import CLIENT, SERVER, Authority, Leaf, elliptic, pem, write
from local.node.layout import (
    API_PORT,
    API_SERVICE_ADDRESS,
    CLUSTER_DOMAIN,
    NODE_ADDRESS,
    NODE_NAME,
    Layout,
)

LEAF_LIFE = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
# The one component that Kubernetes has no role for.
NETWORK_POLICIES = "system:kube-network-policies"

API_SERVICE_NAMES = tuple(
    f"kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", f".default.svc.{CLUSTER_DOMAIN}")
)


@dataclass(frozen=True, kw_only=True)
class Identity(Leaf):
    """A component's certificate, and whether it goes to the API server with a kubeconfig that carries it."""

    kubeconfig: bool = True
    life: timedelta = LEAF_LIFE
    renew_before: timedelta = RENEW_BEFORE


CONTROL_PLANE = (
    Identity(
        name="apiserver",
        user="kube-apiserver",
        usages=(SERVER,),
        addresses=(NODE_ADDRESS, API_SERVICE_ADDRESS),
        hosts=API_SERVICE_NAMES,
        kubeconfig=False,
    ),
    Identity(name="apiserver-to-kubelet", user="kube-apiserver", group="system:masters", kubeconfig=False),
    Identity(
        name="controller-manager",
        user="system:kube-controller-manager",
        usages=(CLIENT, SERVER),
        addresses=(NODE_ADDRESS,),
    ),
    Identity(name="scheduler", user="system:kube-scheduler", usages=(CLIENT, SERVER), addresses=(NODE_ADDRESS,)),
    Identity(name="admin", user="admin", group="system:masters"),
)


def of_node(layout: Layout) -> tuple[Identity, ...]:
    """The certificates that each node has."""
    return (
        Identity(
            name="kubelet",
            user=f"system:node:{layout.name}",
            group="system:nodes",
            usages=(CLIENT, SERVER),
            addresses=(layout.address,),
            hosts=(layout.name,),
        ),
        Identity(name="proxy", user="system:kube-proxy"),
        Identity(name="network-policies", user=NETWORK_POLICIES),
    )


def ensure(layout: Layout, now: datetime | None = None) -> None:
    """Makes what the first node lacks, and renews a leaf that ends within a month or was made for other names.

    Each file appears whole or not at all, and a leaf's key is in the file of its certificate, so an interruption
    leaves nothing that does not fit together.
    """
    now = now or datetime.now(UTC)
    _directory(layout)
    authority = _authority(layout, now)
    if not service_account_key(layout).exists():
        write(service_account_key(layout), pem(elliptic()))
    _ensure(layout, authority, (*CONTROL_PLANE, *of_node(layout)), now)


def join(layout: Layout, first: Layout, now: datetime | None = None) -> None:
    """The same for a node that joins the first one, whose authority's key it does not get."""
    now = now or datetime.now(UTC)
    _directory(layout)
    authority = _authority(first, now)
    known = authority_file(first).read_bytes()
    if not authority_file(layout).exists() or authority_file(layout).read_bytes() != known:
        write(authority_file(layout), known)
    _ensure(layout, authority, of_node(layout), now)


def _directory(layout: Layout) -> None:
    layout.pki.mkdir(parents=True, exist_ok=True)
    layout.pki.chmod(0o700)


def _authority(layout: Layout, now: datetime) -> Authority:
    return Authority.ensure(f"{NODE_NAME} authority", authority_key(layout), authority_file(layout), now)


def _ensure(layout: Layout, authority: Authority, leaves: Iterable[Identity], now: datetime) -> None:
    for leaf in leaves:
        file = leaf_file(layout, leaf.name)
        if not authority.vouches(leaf, file, file, now):
            key = elliptic()
            write(file, pem(authority.issue(leaf, key, now)) + pem(key))
        if leaf.kubeconfig:
            place = kubeconfig_file(layout, leaf.name)
            text = kubeconfig(authority_file(layout).read_bytes(), file.read_bytes())
            if not place.exists() or place.read_text() != text:
                write(place, text.encode())


def authority_file(layout: Layout) -> Path:
    """The authority's certificate, without its key."""
    return layout.pki / "ca.crt"


def authority_key(layout: Layout) -> Path:
    """The authority's key."""
    return layout.pki / "ca.key"


def service_account_key(layout: Layout) -> Path:
    """The key that signs the tokens of service accounts."""
    return layout.pki / "service-accounts.key"


def leaf_file(layout: Layout, name: str) -> Path:
    """A leaf's certificate and key, in one file."""
    return layout.pki / f"{name}.pem"


def kubeconfig_file(layout: Layout, name: str) -> Path:
    """The kubeconfig that carries a leaf."""
    return layout.kubeconfig if name == "admin" else layout.pki / f"{name}.kubeconfig"


def kubeconfig(authority: bytes, identity: bytes) -> str:
    """A kubeconfig for our API server.

    Args:
        authority: its certificate as PEM.
        identity: certificate and key of the user as PEM.
    """
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": NODE_NAME,
                    "cluster": {
                        "server": f"https://{NODE_ADDRESS}:{API_PORT}",
                        "certificate-authority-data": base64.b64encode(authority).decode(),
                    },
                }
            ],
            "users": [
                {
                    "name": NODE_NAME,
                    "user": {
                        "client-certificate-data": base64.b64encode(identity).decode(),
                        "client-key-data": base64.b64encode(identity).decode(),
                    },
                }
            ],
            "contexts": [{"name": NODE_NAME, "context": {"cluster": NODE_NAME, "user": NODE_NAME}}],
            "current-context": NODE_NAME,
        },
        indent=2,
    )
