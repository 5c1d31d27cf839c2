"""Names, as pure functions: physical names are a contract with people, other tools and the code inside a cluster.

Nothing is auto-named, so each limit is met here or refused, and two different sites never share a name.
"""

import hashlib
import re

LABEL_MAX = 63  # a namespace is a DNS label (RFC 1123)
SYSTEM_SUFFIX = "-system"
SITE_NAME_MAX = LABEL_MAX - len(SYSTEM_SUFFIX)
SITE_NAME_ALLOWED = (
    f"a lower-case letter, then lower-case letters, digits and single hyphens, at most {SITE_NAME_MAX} in all, "
    f"not ending in {SYSTEM_SUFFIX}, and neither default nor kube nor beginning with kube-"
)
CLUSTER_DOMAIN = "cluster.local"

_SITE_NAME = re.compile(r"(?!default$|kube(-|$))[a-z][a-z0-9]*(-[a-z0-9]+)*")
_CHECKSUM_LENGTH = 16
GOOGLE_CLUSTER_MAX = 40
GOOGLE_ACCOUNT_MAX = 30
_GOOGLE_CHECKSUM_LENGTH = 8


def is_site_name(name: str) -> bool:
    """Whether a site may be called so; `SITE_NAME_ALLOWED` says it in words.

    A name that ends in -system is refused: `a-system` would be that site's namespace and the system namespace of `a`.
    So is a name whose namespaces each cluster has already: `kube` would take over `kube-system`.
    """
    return _SITE_NAME.fullmatch(name) is not None and len(name) <= SITE_NAME_MAX and not name.endswith(SYSTEM_SUFFIX)


def namespace(site: str) -> str:
    """The namespace of all that needs no privilege."""
    return _checked(site)


def system_namespace(site: str) -> str:
    """The namespace of the privileged node agents."""
    return _checked(site) + SYSTEM_SUFFIX


def cvmfs_volume(site: str) -> str:
    """The PersistentVolume over the CVMFS directory of each node; volumes know no namespaces."""
    return f"{_checked(site)}-cvmfs"


def service_priority(site: str) -> str:
    """The PriorityClass of what startds depend on; priority classes know no namespaces."""
    return f"{_checked(site)}-service"


def node_reader(site: str) -> str:
    """The ClusterRole by which the vacuum controller sees nodes; cluster roles know no namespaces."""
    return f"{_checked(site)}-nodes"


def google(site: str) -> str:
    """The cluster on Google Cloud, and its network, subnet, router and NAT: the shortest limit is 40 characters."""
    return _google_cut(f"atlas-{_checked(site)}", GOOGLE_CLUSTER_MAX)


def google_account(site: str) -> str:
    """The service account of the nodes on Google Cloud: 6 to 30 characters."""
    return _google_cut(f"atlas-{_checked(site)}", GOOGLE_ACCOUNT_MAX)


def squid(index: int) -> str:
    """One squid: its Deployment and its own Service."""
    return f"squid-{index}"


def service_host(service: str, namespace: str) -> str:
    """The name by which a Service is found from anywhere in its cluster."""
    return f"{service}.{namespace}.svc.{CLUSTER_DOMAIN}"


def namespace_of_host(host: str) -> str | None:
    """The namespace of a Service's host name; none when the host is not in the cluster."""
    parts = host.removesuffix(".").removesuffix(f".{CLUSTER_DOMAIN}").split(".")
    return parts[1] if len(parts) == 3 and parts[2] == "svc" else None


def checksum(*texts: str) -> str:
    """A short digest of configuration, put on a pod template so that a change of one rolls the other."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(len(text).to_bytes(8, "big") + text.encode())
    return digest.hexdigest()[:_CHECKSUM_LENGTH]


def _google_cut(name: str, most: int) -> str:
    """The name, or its beginning and a digest of the whole where it is too long."""
    if len(name) <= most:
        return name
    digest = checksum(name)[:_GOOGLE_CHECKSUM_LENGTH]
    return f"{name[: most - len(digest) - 1].rstrip('-')}-{digest}"


def _checked(site: str) -> str:
    if not is_site_name(site):
        raise ValueError(f"{site!r} cannot be the name of a site; allowed: {SITE_NAME_ALLOWED}")
    return site
