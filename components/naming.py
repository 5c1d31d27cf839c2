"""Names, as pure functions: physical names are a contract with people, other tools and the code inside a cluster.

Nothing is auto-named, so each limit is met here or refused, and two different sites never share a name.
"""

import hashlib
import re
import uuid

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
AZURE_DNS_PREFIX_MAX = 54
GOOGLE_CLUSTER_MAX = 40
GOOGLE_ACCOUNT_MAX = 30
AMAZON_ROLE_MAX = 64
_SHORT_CHECKSUM_LENGTH = 8
_ACCOUNT_SITE_LENGTH = 11  # of the 24 that a storage account's name may have


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


def node_keeper(site: str) -> str:
    """The ClusterRole by which the node health controller sees nodes and takes them out of use."""
    return f"{_checked(site)}-nodehealth"


def node_monitor(site: str) -> str:
    """The ClusterRole by which monitors write their node's conditions, and the policy that keeps them to their own."""
    return f"{_checked(site)}-node-monitor"


def azure(site: str) -> str:
    """The resource group on Azure, and the cluster, network and identity in it; the shortest limit is 63 characters."""
    return f"atlas-{_checked(site)}"


def azure_nodes(site: str) -> str:
    """The resource group that AKS makes for the nodes: at most 80 characters."""
    return f"{azure(site)}-nodes"


def azure_address(site: str, index: int) -> str:
    """One public address of the NAT gateway: at most 80 characters."""
    return f"{azure(site)}-{index}"


def azure_dns_prefix(site: str) -> str:
    """What the API server's host name begins with: at most 54 characters, which a long name is cut to fit."""
    return _cut(azure(site), AZURE_DNS_PREFIX_MAX)


def azure_data(site: str) -> str:
    """The resource group of what payloads make, apart from the cluster's: at most 90 characters."""
    return f"{azure(site)}-data"


def azure_account(site: str, subscription: str) -> str:
    """The storage account: 3 to 24 small letters and digits, which nobody else in the world has."""
    digest = hashlib.sha256(f"{subscription}/{azure(site)}".encode()).hexdigest()
    return f"atlas{_checked(site).replace('-', '')[:_ACCOUNT_SITE_LENGTH]}{digest[:_SHORT_CHECKSUM_LENGTH]}"


def azure_startds(site: str) -> str:
    """The identity of startds on Azure: at most 128 characters."""
    return f"{azure(site)}-startds"


def azure_role_assignment(site: str, subscription: str, what: str) -> str:
    """The UUID by which Azure knows that the site may use something; no two in a tenant may be the same."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"atlas-sites/{subscription}/{azure(site)}/{what}"))


def google(site: str) -> str:
    """The cluster on Google Cloud, and its network, subnet, router and NAT: the shortest limit is 40 characters."""
    return _cut(f"atlas-{_checked(site)}", GOOGLE_CLUSTER_MAX)


def google_account(site: str) -> str:
    """The service account of the nodes on Google Cloud: 6 to 30 characters."""
    return _cut(f"atlas-{_checked(site)}", GOOGLE_ACCOUNT_MAX)


def google_account_address(site: str, project: str) -> str:
    """The e-mail address by which Google knows that account."""
    return f"{google_account(site)}@{project}.iam.gserviceaccount.com"


def amazon(site: str) -> str:
    """The cluster on AWS: at most 100 characters."""
    return f"atlas-{_checked(site)}"


def amazon_template(site: str, pool: str) -> str:
    """What the nodes of a pool on AWS are made from: at most 128 characters."""
    return f"{amazon(site)}-{pool}"


def amazon_role(site: str, part: str) -> str:
    """The IAM role of one part of the site, which the account has once for all regions: at most 64 characters."""
    return _cut(f"{amazon(site)}-{part}", AMAZON_ROLE_MAX)


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


def _cut(name: str, most: int) -> str:
    """The name, or its beginning and a digest of the whole where it is too long."""
    if len(name) <= most:
        return name
    digest = checksum(name)[:_SHORT_CHECKSUM_LENGTH]
    return f"{name[: most - len(digest) - 1].rstrip('-')}-{digest}"


def _checked(site: str) -> str:
    if not is_site_name(site):
        raise ValueError(f"{site!r} cannot be the name of a site; allowed: {SITE_NAME_ALLOWED}")
    return site
