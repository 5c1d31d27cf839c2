"""What a stack promises other tools: names, types and a version, in `docs/outputs.schema.json`.

Within a version a name or a type never changes and nothing is taken away; additions are no new version.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pulumi
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from components.cluster.pools import NodePool
from components.portal import Portal
from sites import Site

SCHEMA_VERSION: Literal[1] = 1
COLUMNS = ("SITE", "ATLAS SITE", "KIND", "REGION", "NAMESPACE", "STARTDS", "CORES", "MEMORY GIB", "POOLS")


class _Promise(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class PoolOutputs(_Promise):
    """Nodes of one shape that an autoscaler may make."""

    name: str
    max: int = Field(description="Nodes at most")
    cores: float = Field(description="That pods may request of one node")
    memory_mib: int = Field(description="That pods may request of one node")
    disk_mib: int = Field(description="Of local disk, that pods may request of one node")
    spot: bool = Field(description="The cloud may take nodes back at any time")
    retiring: bool = Field(description="It takes no more startds")
    price_per_hour: float | None = Field(default=None, description="Of one node, in the currency of the site's budget")


class ClusterOutputs(_Promise):
    """How the site's cluster is reached."""

    kind: Literal["existing", "azure", "gcp", "aws"] = Field(
        description="Who made the cluster: existing is somebody else"
    )
    region: str | None = Field(default=None, description="Of the cloud; null for existing")
    kubeconfig: str = Field(description="Secret: the text of a kubeconfig file with this cluster alone")
    pools: list[PoolOutputs] | None = Field(default=None, description="For startds; null where nobody knows of one")


class SquidOutputs(_Promise):
    """The site's web caches, reachable from within the cluster."""

    vip: str = Field(description="URL of the Service over all squids")
    endpoints: list[str] = Field(description="URL of each squid, for clients that shard")
    proxies: str = Field(description="The same as CVMFS_HTTP_PROXY wants it")


class CvmfsOutputs(_Promise):
    """The software repositories."""

    host_path: str | None = Field(
        description="Directory of each node below which the repositories are mounted; null where a CSI driver mounts"
    )
    claim: str = Field(description="PersistentVolumeClaim by which pods of the site mount that directory")
    repositories: list[str] = Field(description="Full names")


class StartdSizeOutputs(_Promise):
    """What one worker has for payloads."""

    cores: int
    memory_mib: int
    disk_mib: int


class StartdsOutputs(_Promise):
    """The site's workers."""

    startd_set: str = Field(description="Name of the StartdSet; its status says what runs and why not more")
    pods: int = Field(description="Most startds at once")
    cores: int = Field(description="Most cores of all startds together")
    memory_mib: int = Field(description="Most MiB of memory of all startds together")
    size: StartdSizeOutputs


class MetricsOutputs(_Promise):
    """Where Prometheus may ask, from within the cluster."""

    vacuum: str
    credentials: str
    nodes: str | None = Field(description="null where the stack has nobody look after nodes")
    accounting: str | None = Field(default=None, description="null where the site keeps no books")


class TimeSeriesOutputs(_Promise):
    """Where time series of the site's books are, in an InfluxDB."""

    url: str
    database: str
    reader: str | None = Field(
        description="Secret of the site's namespace: username and password of who may read; null where it is not ours"
    )


class MetricsDatabaseOutputs(_Promise):
    """The site's own VictoriaMetrics, which is queried as a Prometheus."""

    url: str
    user: str = Field(description="Secret of the site's namespace: username and password")


class StageOutOutputs(_Promise):
    """Where payloads put what they made."""

    container: str = Field(description="URL of a container of Azure Blob")


class SiteOutputs(_Promise):
    """One site."""

    name: str
    atlas_site: str = Field(description="The name by which the experiment knows the site")
    namespace: str = Field(description="Of squids, services and startds")
    system_namespace: str = Field(description="Of the privileged node agents")
    cluster: ClusterOutputs
    squid: SquidOutputs
    cvmfs: CvmfsOutputs
    startds: StartdsOutputs
    metrics: MetricsOutputs
    metrics_database: MetricsDatabaseOutputs | None = Field(default=None, description="null where the site has none")
    time_series: TimeSeriesOutputs | None = Field(default=None, description="null where the site makes none")
    stage_out: StageOutOutputs | None = Field(default=None, description="null where the site offers none")


class Outputs(_Promise):
    """All outputs of a stack, as `pulumi stack output --json` prints them."""

    schema_version: Literal[1] = SCHEMA_VERSION
    sites: dict[str, SiteOutputs] = Field(description="By name")
    portal: str | None = Field(
        default=None, description="Command by which a person reaches the page of all sites; null without one"
    )
    table: str = Field(description="All sites, one a line, for people: `pulumi stack output table`")


def schema() -> str:
    """The promise as JSON Schema."""
    return json.dumps(Outputs.model_json_schema(by_alias=True), indent=2) + "\n"


def export(sites: Iterable[Site], portal: Portal | None = None) -> None:
    """Exports the outputs of the running stack."""
    pulumi.export("schemaVersion", SCHEMA_VERSION)
    whole = list(sites)
    pulumi.export("sites", {site.settings.name: describe(site) for site in whole})
    pulumi.export("portal", portal.command if portal else None)
    pulumi.export("table", table([_line(site) for site in whole]))


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines under the names of their columns, as kubectl would print them."""
    whole = [COLUMNS, *lines]
    widths = [max(len(line[column]) for line in whole) for column in range(len(COLUMNS))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in whole
    )


def _line(site: Site) -> Sequence[str]:
    own, limits = site.settings, site.startds.limits
    pools = "?" if site.cluster.pools is None else " ".join(f"{pool.name}:{pool.most}" for pool in site.cluster.pools)
    return (
        own.name, own.atlas_site, own.kind, site.cluster.region or "-", own.lasting_name,
        str(limits.pods), str(limits.cores), f"{limits.memory_mib / 1024:.0f}", pools or "-",
    )  # fmt: skip


def describe(site: Site) -> Mapping[str, Any]:
    """One site; what is secret or not known yet stays so, which is why this is no `SiteOutputs`."""
    own = site.settings
    return {
        "name": own.name,
        "atlasSite": own.atlas_site,
        "namespace": site.namespaces.site,
        "systemNamespace": site.namespaces.system,
        "cluster": {
            "kind": own.kind,
            "region": site.cluster.region,
            "kubeconfig": site.cluster.kubeconfig,
            "pools": None if site.cluster.pools is None else [_pool(pool) for pool in site.cluster.pools],
        },
        "squid": {"vip": site.squids.vip, "endpoints": site.squids.endpoints, "proxies": site.squids.proxies},
        "cvmfs": {
            "hostPath": site.cvmfs.host_path,
            "claim": site.cvmfs.claim,
            "repositories": list(own.cvmfs.repositories),
        },
        "startds": {
            "startdSet": site.startds.name,
            "pods": site.startds.limits.pods,
            "cores": site.startds.limits.cores,
            "memoryMib": site.startds.limits.memory_mib,
            "size": {
                "cores": own.startds.cores,
                "memoryMib": own.startds.memory_mib,
                "diskMib": own.startds.disk_mib,
            },
        },
        "metrics": {
            "vacuum": site.vacuum.metrics,
            "credentials": site.credentials.metrics,
            "nodes": None if site.nodes is None else site.nodes.metrics,
            "accounting": site.accounting.metrics if site.accounting else None,
        },
        "metricsDatabase": {"url": site.metrics.url, "user": site.metrics.user} if site.metrics else None,
        "timeSeries": _time_series(site),
        "stageOut": {"container": site.stage_out.container} if site.stage_out else None,
    }


def _time_series(site: Site) -> Mapping[str, str | None] | None:
    series = site.accounting.series if site.accounting else None
    if series is None:
        return None
    reader = site.timeseries.reader if site.timeseries else None
    return {"url": series.url, "database": series.database, "reader": reader}


def _pool(pool: NodePool) -> Mapping[str, Any]:
    return {
        "name": pool.name,
        "max": pool.most,
        "cores": pool.cores,
        "memoryMib": pool.memory_mib,
        "diskMib": pool.disk_mib,
        "spot": pool.spot,
        "retiring": pool.retiring,
        "pricePerHour": pool.price_per_hour,
    }
