"""From what a stack says of a site's cluster to the cluster; of the clouds' SDKs only those it needs are imported."""

# ruff: noqa: PLC0415  each of the clouds' SDKs takes seconds to import, and most stacks need one of them or none

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pulumi

import settings
from components.cluster import kubeconfig
from components.cluster.cluster import Cluster
from components.cluster.existing import ExistingCluster, ExistingClusterArgs
from components.cluster.plan import Maintenance, SystemPool
from components.cluster.pools import NodePool, Taint
from components.startds import LEAVING_SECONDS


def make(name: str, site: settings.Site, opts: pulumi.ResourceOptions) -> Cluster:
    """The site's cluster: made by us, or reached where it is there already."""
    try:
        match site:
            case settings.ExistingSite():
                return _existing(name, site, opts)
            case settings.AzureSite():
                return _azure(name, site, opts)
            case settings.GoogleSite():
                return _google(name, site, opts)
            case settings.AmazonSite():
                return _amazon(name, site, opts)
    except ModuleNotFoundError as error:
        raise pulumi.RunError(
            f"site {site.name}: the package {error.name} is not installed, which makes clusters of kind {site.kind}: "
            "install what requirements/clouds.txt lists."
        ) from None


def check(sites: Sequence[settings.Site]) -> None:
    """Says which sites' clusters cannot be reached for want of a kubeconfig.

    Raises:
        pulumi.RunError: there is no other site; with others, theirs must not wait for it, and all that is declared of
            the site still is, or the engine would take it for given up and delete it.
    """
    problems = [problem for site in sites if isinstance(site, settings.ExistingSite) for problem in _problems(site)]
    if len(problems) == len(sites):
        raise pulumi.RunError("\n".join(problems))
    for problem in problems:
        pulumi.log.error(problem)


def _problems(site: settings.ExistingSite) -> Iterator[str]:
    try:
        _access(site)
    except kubeconfig.KubeconfigError as error:
        yield f"site {site.name}: {error}."


def _existing(name: str, site: settings.ExistingSite, opts: pulumi.ResourceOptions) -> Cluster:
    try:
        access = _access(site)
    except kubeconfig.KubeconfigError:
        access = kubeconfig.NOWHERE
    args = ExistingClusterArgs(
        identifier=f"{site.lasting_name}-cluster",
        kubeconfig=access,
        pools=None if site.pools is None else [_node_pool(pool) for pool in site.pools],
    )
    return ExistingCluster(name, args, opts)


def _access(site: settings.ExistingSite) -> kubeconfig.Kubeconfig:
    """How the site's cluster is reached: by the file that the stack names, or else by the one that KUBECONFIG does.

    `~/.kube/config` is never a default: whoever looked at another cluster last would deploy into that one.
    """
    file = site.kubeconfig or os.environ.get("KUBECONFIG")
    if not file:
        raise kubeconfig.KubeconfigError(
            "no kubeconfig: name the cluster's file as the key kubeconfig of the site, "
            "or in the environment variable KUBECONFIG"
        )
    return kubeconfig.read(Path(file).expanduser(), site.context)


def _node_pool(pool: settings.existing.NodePool) -> NodePool:
    return NodePool(
        name=pool.name,
        selector=pool.selector,
        most=pool.max,
        cores=pool.cores,
        memory_mib=pool.memory_mib,
        disk_mib=pool.disk_mib,
        pods=pool.pods,
        taints=[Taint(key=taint.key, value=taint.value, effect=taint.effect) for taint in pool.taints],
        price_per_hour=pool.price_per_hour,
    )


def _azure(name: str, site: settings.AzureSite, opts: pulumi.ResourceOptions) -> Cluster:
    from components.cluster.azure import AzureCluster, AzureClusterArgs, AzureJobPool, AzureOutbound, AzureStorage

    own = site.cluster
    storage = site.stage_out.own if site.stage_out else None
    args = AzureClusterArgs(
        **_common(site),
        subscription=own.subscription,
        tier=own.tier,
        admin_groups=own.admin_groups,
        maintenance=_maintenance(own.maintenance),
        outbound=AzureOutbound(
            by=own.outbound.by,
            idle_minutes=own.outbound.idle_minutes,
            ports_per_node=own.outbound.ports_per_node,
            addresses=own.outbound.addresses,
        ),
        job_pools=[
            AzureJobPool(
                **_job_pool(pool), os_disk_gib=pool.os_disk_gib, kubelet_disk=pool.kubelet_disk, zones=pool.zones
            )
            for pool in site.job_pools
        ],
        storage=AzureStorage(redundancy=storage.redundancy, keep_days=storage.keep_days) if storage else None,
    )
    return AzureCluster(name, args, opts)


def _google(name: str, site: settings.GoogleSite, opts: pulumi.ResourceOptions) -> Cluster:
    from components.cluster.gcp import GoogleCluster, GoogleClusterArgs, GoogleJobPool

    own = site.cluster
    args = GoogleClusterArgs(
        **_common(site),
        project=own.project,
        zone=own.zone,
        maintenance=_maintenance(own.maintenance),
        nat_idle_seconds=own.nat_idle_seconds,
        job_pools=[GoogleJobPool(**_job_pool(pool), local_ssds=pool.local_ssds) for pool in site.job_pools],
    )
    return GoogleCluster(name, args, opts)


def _amazon(name: str, site: settings.AmazonSite, opts: pulumi.ResourceOptions) -> Cluster:
    from components.cluster.aws import AmazonCluster, AmazonClusterArgs, AmazonJobPool

    own = site.cluster
    args = AmazonClusterArgs(
        **_common(site),
        account=own.account,
        zone=own.zone,
        second_zone=own.second_zone,
        admins=own.admins,
        autoscaler_image=own.autoscaler_image,
        job_pools=[AmazonJobPool(**_job_pool(pool), release=pool.release) for pool in site.job_pools],
    )
    return AmazonCluster(name, args, opts)


def _maintenance(own: settings.clouds.Maintenance) -> Maintenance:
    return Maintenance(day=own.day, start_hour_utc=own.start_hour_utc, hours=own.hours)


def _common(site: settings.CloudSite) -> dict[str, Any]:
    """What `components.cluster.plan.ClusterArgs` wants to know."""
    own = site.cluster
    return {
        "site": site.lasting_name,
        "region": own.region,
        "kubernetes_version": own.kubernetes_version,
        "network": own.network,
        "authorized_networks": own.authorized_networks,
        "system_pool": SystemPool(size=own.system_pool.size, nodes=own.system_pool.nodes),
        "drain_seconds": site.startds.drain_seconds + LEAVING_SECONDS,
    }


def _job_pool(pool: settings.clouds.JobPool) -> dict[str, Any]:
    """What `components.cluster.plan.JobPool` wants to know."""
    return {
        "name": pool.name,
        "generation": pool.generation,
        "size": pool.size,
        "least": pool.min,
        "most": pool.max,
        "spot": pool.spot,
        "retiring": pool.retiring,
        "price_per_hour": pool.price_per_hour,
    }
