"""What a stack may say of what runs on a site, whatever its cluster is."""

from typing import Annotated, Literal

from pydantic import Field

from settings.accounting import Accounting, Ledger
from settings.values import (
    AtlasSite,
    Certificates,
    Closed,
    ContainerUrl,
    Destination,
    Fqan,
    HostPort,
    LabelKey,
    LabelValue,
    Network,
    ObjectName,
    PoolNetwork,
    PrivateKey,
    Repository,
    SiteName,
    Url,
    Word,
)

# The shortest idle time-out that a site may meet by default is 240 s (Azure's NAT gateway); 1.2 is the margin.
KEEPALIVE_MAX_SECONDS = 200
# A pilot refuses to start on a proxy with fewer hours left, so one that is about to be refreshed must have more.
PILOT_FLOOR_HOURS = 72


class CertificateAuthority(Closed):
    """Who signed the pool's host certificates: PEM text, or the key `ca.pem` of a ConfigMap in the site's cluster."""

    pem: Certificates | None = None
    config_map: ObjectName | None = None
    namespace: ObjectName | None = None


class Pool(Closed):
    """The central pool that the site's startds join."""

    collector: HostPort
    trust_domain: Word
    certificate_authority: CertificateAuthority | None = None
    # Private networks that startds must reach for the pool; all other private addresses are closed to them.
    networks: tuple[PoolNetwork, ...] = ()


class HostCertificate(Closed):
    """The Secret (keys hostcert, hostkey) with the host certificate, or both parts as Pulumi secrets."""

    secret: ObjectName | None = None
    namespace: ObjectName | None = None
    certificate: Certificates | None = None
    key: PrivateKey | None = None


class Token(Closed):
    """The Secret (key token) with a token that the pool takes: its own, or a SciToken."""

    secret: ObjectName
    namespace: ObjectName


class Voms(Closed):
    """What a virtual organisation shall say of the site, by its servers, which a ConfigMap tells and vouches for.

    Its keys are vomses, ca.pem (who signed the servers' certificates and the host's) and HOST.lsc of each server.
    """

    organisation: Word
    attributes: Annotated[tuple[Fqan, ...], Field(min_length=1)]
    config_map: ObjectName
    namespace: ObjectName


class Credentials(Closed):
    """What startds prove themselves with to the pool, and payloads to the grid."""

    host_certificate: HostCertificate
    token: Token | None = None
    voms: Voms | None = None
    proxy_hours: Annotated[int, Field(ge=PILOT_FLOOR_HOURS + 1, le=24 * 14)] = 96
    refresh_hours: Annotated[int, Field(ge=1)] = 6
    alarm_hours: Annotated[int, Field(ge=1)] = 80
    critical_hours: Annotated[int, Field(ge=1)] = PILOT_FLOOR_HOURS


class Squid(Closed):
    """The site's web caches."""

    replicas: Annotated[int, Field(ge=1, le=20)] = 2
    destinations: Annotated[tuple[Destination, ...], Field(min_length=1)]
    clients: tuple[Network, ...] = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
    cache_mib: Annotated[int, Field(ge=64, le=1024 * 1024)] = 50 * 1024
    memory_mib: Annotated[int, Field(ge=96, le=256 * 1024)] = 4096


class Cvmfs(Closed):
    """The software repositories, by a DaemonSet of ours, by the node itself at /cvmfs (host), or by a claim (csi).

    `claim` names one in the site's namespace that the CVMFS CSI driver serves and that somebody else has made.
    """

    mode: Literal["daemonset", "host", "csi"] = "daemonset"
    claim: ObjectName | None = None
    repositories: Annotated[tuple[Repository, ...], Field(min_length=1)]
    server_url: Url | None = None
    quota_mib: Annotated[int, Field(ge=256, le=1024 * 1024)] = 20 * 1024


class Nodes(Closed):
    """What is done about nodes that spoil work: nothing, telling it, or taking them out of use as well."""

    mode: Literal["cordon", "report", "none"] = "cordon"
    # Without a sign, after which a problem is over and its node is given back.
    quiet_seconds: Annotated[int, Field(ge=10, le=24 * 3600)] = 1800


class Monitoring(Closed):
    """The cluster's own Prometheus: the namespace it asks from, and whether its operator is there.

    `labels` are those by which it picks rules, as in {release: prometheus}. Sites that share a cluster share one.
    """

    namespace: ObjectName
    operator: bool = False
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)


class Metrics(Closed):
    """A VictoriaMetrics of the site's own, which asks all that tells metrics and keeps it for some days."""

    days: Annotated[int, Field(ge=1, le=3650)] = 30
    store: Ledger = Ledger()


class OwnContainer(Closed):
    """A container that a site on AKS makes for itself, and that startds are let into by an identity of theirs.

    `keep_days` is how long what was deleted or overwritten can be had back.
    """

    redundancy: Literal["LRS", "ZRS", "GRS"] = "LRS"
    keep_days: Annotated[int, Field(ge=1, le=365)] = 14


class StageOut(Closed):
    """Where payloads put what they made: a container of Azure Blob, of the site's own or one that is there already.

    For the latter `secret`, of the site's namespace, has a SAS under the key sas, which may read, create and write.
    """

    own: OwnContainer | None = None
    container: ContainerUrl | None = None
    secret: ObjectName | None = None


class Limits(Closed):
    """How much the site's startds may use together."""

    pods: Annotated[int, Field(ge=1, le=100_000)]
    cores: Annotated[int, Field(ge=1)]
    memory_mib: Annotated[int, Field(ge=256)]
    cost_per_hour: Annotated[float, Field(gt=0)] | None = None


class Share(Closed):
    """What the site's startds get of a site that other StartdSets of its namespace use too.

    `weight` is in proportion to theirs, `floor` is how many startds come before weights count.
    """

    weight: Annotated[int, Field(ge=1, le=10_000)] = 1
    floor: Annotated[int, Field(ge=0, le=100_000)] = 0


class Window(Closed):
    """How many startds may run that have not shown yet that there is work."""

    initial: Annotated[int, Field(ge=1)] = 4
    maximum: Annotated[int, Field(ge=1)] | None = None


class Backoff(Closed):
    """How long the site waits when startds find no work: doubling from base to cap."""

    base_seconds: Annotated[int, Field(ge=10)] = 600
    cap_seconds: Annotated[int, Field(ge=10, le=24 * 3600)] = 3600


class Startds(Closed):
    """The site's workers."""

    limits: Limits
    cores: Annotated[int, Field(ge=1, le=256)] = 1
    requested_cores: Annotated[float, Field(ge=0.01, le=256)] | None = None
    memory_mib: Annotated[int, Field(ge=256)] = 2048
    disk_mib: Annotated[int, Field(ge=512)] = 20 * 1024
    start_seconds: Annotated[int, Field(ge=30, le=3600)] = 300
    no_claim_seconds: Annotated[int, Field(ge=20, le=24 * 3600)] = 600
    drain_seconds: Annotated[int, Field(ge=30, le=7 * 24 * 3600)] = 3600
    # Below the pilot's 96 hours, and often enough for a new image to be everywhere within days.
    lifetime_seconds: Annotated[int, Field(ge=600, le=30 * 24 * 3600)] = 2 * 24 * 3600
    update: Literal["OnFinish", "Drain"] = "OnFinish"
    # What payloads can start containers of their own by, as pilots do with Apptainer.
    payload_containers: Literal["userNamespaces", "none"] = "none"
    share: Share = Share()
    window: Window = Window()
    backoff: Backoff = Backoff()


class AnySite(Closed):
    """What is said of each site, whatever its cluster is.

    `former_names` are those that the site had before, the oldest first: all that bears a name keeps the oldest.
    """

    name: SiteName
    former_names: tuple[SiteName, ...] = ()
    atlas_site: AtlasSite
    pool: Pool
    credentials: Credentials
    squid: Squid
    cvmfs: Cvmfs
    nodes: Nodes = Nodes()
    startds: Startds
    accounting: Accounting | None = None
    metrics: Metrics | None = None
    monitoring: Monitoring | None = None
    stage_out: StageOut | None = None
    keepalive_seconds: Annotated[int, Field(ge=30, le=KEEPALIVE_MAX_SECONDS)] = 180
    # That payloads reach by no port but DNS, squids and the pool: private and link-local ones always, and these.
    closed_networks: tuple[Network, ...] = ()

    @property
    def lasting_name(self) -> str:
        """The name that its namespaces, its cluster and all else outside the stack bear for good."""
        return self.former_names[0] if self.former_names else self.name
