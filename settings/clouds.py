"""What a stack may say of the clusters that it makes: what all clouds have in common, and what each has of its own."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from settings.values import Closed, ImageByDigest, Network, like
from settings.workload import AnySite

# Eight characters, so that the generation fits behind it into the twelve that AKS allows.
PoolName = Annotated[str, like(r"[a-z][a-z0-9]{0,7}", "a letter, then letters and digits, all small, at most 8")]
Region = Annotated[str, like(r"[a-z0-9-]{3,30}", "the name of a region of the cloud, as in westeurope")]
Version = Annotated[str, like(r"1\.[1-9][0-9](\.[0-9]+)?", "a Kubernetes version in quotes, as in '1.34'")]
Size = Annotated[str, like(r"[A-Za-z0-9._-]{2,60}", "the name of a machine type of the cloud, as in Standard_D8ds_v5")]
Uuid = Annotated[str, like(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "a UUID in small letters")]
Project = Annotated[str, like(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "the ID of a Google Cloud project")]
Account = Annotated[str, like(r"[0-9]{12}", "the number of an AWS account, 12 digits in quotes")]
Principal = Annotated[
    str,
    like(
        r"arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]+",
        "the ARN of an IAM role or user, as in arn:aws:iam::123456789012:role/deploy",
    ),
]
Release = Annotated[
    str, like(r"1\.[1-9][0-9]\.[0-9]+-[0-9]{8}", "a release of EKS's node images, as in 1.34.1-20260720")
]
Zone = Annotated[str, like(r"[a-z0-9-]{1,30}", "the name of a zone of the region, in quotes")]


def _mode(right: str, wrong: str) -> BeforeValidator:
    """A mode of the cloud's that cannot carry a site is refused with the reason."""

    def check(value: object) -> object:
        if value == wrong:
            reason = f"{right}; {wrong} forbids the privileged pods that mount CVMFS on each node"
            raise PydanticCustomError("not_allowed", "{words}", {"words": reason})
        return value

    return BeforeValidator(check)


class Maintenance(Closed):
    """When the cloud may renew nodes, each after its payloads had time to end."""

    day: Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] = "Tuesday"
    start_hour_utc: Annotated[int, Field(ge=0, le=23)] = 6
    hours: Annotated[int, Field(ge=4, le=24)] = 8


class SystemPool(Closed):
    """The nodes of squids and services; payloads never run there."""

    size: Size
    nodes: Annotated[int, Field(ge=1, le=20)] = 3


class JobPool(Closed):
    """Nodes for startds, made while they are needed.

    A cloud cannot change the size or the disk of a pool, and ends its payloads when it replaces one. So write a second
    entry with the next `generation` and the change, and `retiring: true` into the old one: it empties, and may go.
    """

    name: PoolName
    generation: Annotated[int, Field(ge=1, le=99)] = 1
    size: Size
    min: Annotated[int, Field(ge=0, le=5000)] = 0
    max: Annotated[int, Field(ge=1, le=5000)]
    spot: bool = False
    retiring: bool = False
    # Of one node, in the currency of the site's budget; the table of sizes has list prices in USD.
    price_per_hour: Annotated[float, Field(gt=0)] | None = None


class _Cluster(Closed):
    """What is said of a cluster in any cloud."""

    region: Region
    kubernetes_version: Version
    # Of the nodes; pods and services have networks of their own.
    network: Network = "10.224.0.0/16"
    # From which the API server may be reached: the machine that runs `pulumi up` must be among them.
    authorized_networks: Annotated[tuple[Network, ...], Field(min_length=1, max_length=100)]
    system_pool: SystemPool


class AzureOutbound(Closed):
    """How nodes reach the outside.

    Attributes:
        by: a load balancer with fixed ports for each node, or a NAT gateway.
        idle_minutes: until an idle connection is forgotten.
        ports_per_node: of the load balancer; a multiple of 8.
        addresses: public ones, each with 64,000 ports.
    """

    by: Literal["loadBalancer", "natGateway"] = "loadBalancer"
    idle_minutes: Annotated[int, Field(ge=4, le=100)] = 30
    ports_per_node: Annotated[int, Field(ge=64, le=64_000, multiple_of=8)] = 1024
    addresses: Annotated[int, Field(ge=1, le=16)] = 1


class AzurePool(JobPool):
    """A pool of AKS.

    Attributes:
        os_disk_gib: of the local disk for the node itself, images and emptyDir; the whole of it by default.
        kubelet_disk: OS, or Temporary, a preview of AKS's that the subscription must be registered for.
        zones: in which nodes are made; everywhere by default.
    """

    os_disk_gib: Annotated[int, Field(ge=30, le=2048)] | None = None
    kubelet_disk: Literal["OS", "Temporary"] = "OS"
    zones: tuple[Zone, ...] = ()


class AzureCluster(_Cluster):
    """An AKS cluster, in a resource group of its own."""

    subscription: Uuid
    mode: Annotated[Literal["Base"], _mode("Base", "Automatic")] = "Base"
    tier: Literal["Free", "Standard", "Premium"] = "Standard"
    maintenance: Maintenance = Maintenance()
    # Groups of Entra ID whose members administer the cluster.
    admin_groups: Annotated[tuple[Uuid, ...], Field(min_length=1)]
    outbound: AzureOutbound = AzureOutbound()


class GooglePool(JobPool):
    """A pool of GKE.

    Attributes:
        local_ssds: of 375 GB each; needed where the machine type leaves the choice.
    """

    local_ssds: Annotated[int, Field(ge=1, le=32)] | None = None


class GoogleCluster(_Cluster):
    """A GKE cluster, in a network of its own."""

    project: Project
    mode: Annotated[Literal["Standard"], _mode("Standard", "Autopilot")] = "Standard"
    zone: Zone
    # GKE refuses windows that add up to less than 48 hours in four weeks.
    maintenance: Maintenance = Maintenance(hours=12)
    nat_idle_seconds: Annotated[int, Field(ge=240, le=7200)] = 1200


class AmazonPool(JobPool):
    """A pool of EKS.

    Attributes:
        release: of the nodes' image; the newest when the pool is made by default.
    """

    release: Release | None = None


class AmazonCluster(_Cluster):
    """An EKS cluster, in a network of its own.

    Attributes:
        account: its number: with credentials of another one nothing is done.
        zone: of all nodes, as traffic between zones is paid for.
        second_zone: EKS makes no cluster in one zone; no node is there.
        admins: roles and users who administer the cluster, the one that runs `pulumi up` among them.
        autoscaler_image: of the cluster-autoscaler, which on EKS is no part of the cluster.
    """

    account: Account
    mode: Annotated[Literal["Standard"], _mode("Standard", "Auto")] = "Standard"
    zone: Zone
    second_zone: Zone
    admins: Annotated[tuple[Principal, ...], Field(min_length=1)]
    autoscaler_image: ImageByDigest


class AzureSite(AnySite):
    """A site on AKS."""

    kind: Literal["azure"]
    cluster: AzureCluster
    job_pools: Annotated[tuple[AzurePool, ...], Field(min_length=1)]


class GoogleSite(AnySite):
    """A site on GKE."""

    kind: Literal["gcp"]
    cluster: GoogleCluster
    job_pools: Annotated[tuple[GooglePool, ...], Field(min_length=1)]


class AmazonSite(AnySite):
    """A site on EKS."""

    kind: Literal["aws"]
    cluster: AmazonCluster
    job_pools: Annotated[tuple[AmazonPool, ...], Field(min_length=1)]


CloudSite = AzureSite | GoogleSite | AmazonSite
