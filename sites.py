"""One site, read as a table of contents: its cluster, then each part of the workload, in order of dependence."""

import pulumi

import clusters
import settings
from components import database, naming, portal, pusher, service, vacuum
from components.accounting import BUDGET, NAME as ACCOUNTING, Accounting, AccountingArgs, Bill, Series
from components.credentials import Credentials, CredentialsArgs, HostCertificate, Reference, Terms, Voms
from components.cvmfs import Cvmfs, CvmfsArgs
from components.metrics import Metrics, MetricsArgs
from components.monitoring import Monitoring, MonitoringArgs
from components.namespaces import Namespaces, NamespacesArgs
from components.nodes import MONITOR, NAME as NODES, Nodes, NodesArgs
from components.seccomp import Seccomp, SeccompArgs
from components.squid import EXPORTER_MIB, POD_CORES, Squids, SquidsArgs
from components.stageout import StageOut, StageOutArgs
from components.startds import StartdLimits, Startds, StartdsArgs, StartdSize, StartdTimes, VacuumPace
from components.timeseries import Timeseries
from components.vacuum import Vacuum, VacuumArgs

# Beside startds and squids: the services, the databases, and pods that are still leaving when their successors come.
SPARE_PODS = 32
SPARE_CORES = 20
SPARE_MEMORY_MIB = 6144


class Site(pulumi.ComponentResource):
    """A cluster and everything on it that makes it a site."""

    def __init__(self, site: settings.Site, images: settings.Images, hub: settings.Portal | None = None) -> None:
        name = site.name
        # Whatever is below it, and begins with its name, inherits this.
        former = [pulumi.Alias(name=earlier) for earlier in site.former_names]
        super().__init__("atlas-sites:index:Site", name, None, pulumi.ResourceOptions(aliases=former))
        self.settings = site
        self.cluster = clusters.make(f"{name}-cluster", site, pulumi.ResourceOptions(parent=self))
        on_it = self.cluster.on_it(self)
        self.namespaces = Namespaces(
            f"{name}-namespaces",
            NamespacesArgs(
                site=site.lasting_name,
                quota=quota(site),
                collector=site.pool.collector,
                pool_networks=site.pool.networks,
                closed_networks=site.closed_networks,
            ),
            on_it,
        )
        self.squids = Squids(
            f"{name}-squid",
            SquidsArgs(
                site=site.lasting_name,
                namespace=self.namespaces.site,
                priority=self.namespaces.priority,
                image=images.squid,
                replicas=site.squid.replicas,
                destinations=site.squid.destinations,
                clients=site.squid.clients,
                cache_mib=site.squid.cache_mib,
                memory_mib=site.squid.memory_mib,
            ),
            on_it,
        )
        self.cvmfs = Cvmfs(
            f"{name}-cvmfs",
            CvmfsArgs(
                site=site.lasting_name,
                namespace=self.namespaces.system,
                consumers=self.namespaces.site,
                image=images.cvmfs,
                mode=site.cvmfs.mode,
                claim=site.cvmfs.claim,
                repositories=site.cvmfs.repositories,
                proxies=self.squids.proxies,
                server_url=site.cvmfs.server_url,
                quota_mib=site.cvmfs.quota_mib,
            ),
            on_it,
        )
        self.credentials = Credentials(f"{name}-credentials", _credentials(self, images), on_it)
        self.vacuum = Vacuum(
            f"{name}-vacuum",
            VacuumArgs(
                site=site.lasting_name,
                namespace=self.namespaces.site,
                priority=self.namespaces.priority,
                image=images.services,
                pools=self.cluster.pools,
                budget=BUDGET if site.accounting and site.accounting.budget else None,
            ),
            on_it,
        )
        self.nodes = Nodes(f"{name}-nodehealth", args, on_it) if (args := _nodes(self, images)) is not None else None
        self.timeseries = (
            Timeseries(f"{name}-timeseries", _place(self, own, images), on_it)
            if site.accounting and site.accounting.series and (own := site.accounting.series.own)
            else None
        )
        self.accounting = (
            Accounting(
                f"{name}-accounting",
                _accounting(self, site.accounting, images),
                on_it,
                needs=[self.vacuum],  # whose ConfigMap of pools it reads
            )
            if site.accounting
            else None
        )
        self.metrics = (
            Metrics(f"{name}-metrics", _metrics(self, site.metrics, images, hub), on_it) if site.metrics else None
        )
        self.monitoring = (
            Monitoring(f"{name}-monitoring", _monitoring(self, site.monitoring), on_it) if site.monitoring else None
        )
        self.seccomp = (
            Seccomp(
                f"{name}-seccomp",
                SeccompArgs(site=site.lasting_name, system=self.namespaces.system, image=images.services),
                on_it,
            )
            if site.startds.payload_containers == "userNamespaces"
            else None
        )
        self.stage_out = (
            StageOut(f"{name}-stage-out", _stage_out(self, site.stage_out), on_it) if site.stage_out else None
        )
        needs = [self.squids, self.cvmfs, self.credentials, self.vacuum, self.seccomp, self.stage_out]
        self.startds = Startds(
            f"{name}-startds", _startds(self, images), on_it, needs=[each for each in needs if each is not None]
        )
        self.register_outputs({"namespace": self.namespaces.site})


def quota(site: settings.Site) -> dict[str, str]:
    """The most that all pods of the site's namespace may take: startds at their limits, squids, and some room."""
    startds, squid = site.startds, site.squid
    squids = 2 * squid.replicas  # in an update, the old ones with the new
    memory = startds.limits.memory_mib + squids * (squid.memory_mib + EXPORTER_MIB) + SPARE_MEMORY_MIB
    return {
        "pods": str(startds.limits.pods + squids + SPARE_PODS),
        "limits.cpu": str(startds.limits.cores + squids * POD_CORES + SPARE_CORES),
        "limits.memory": f"{memory}Mi",
    }


def _credentials(site: Site, images: settings.Images) -> CredentialsArgs:
    own = site.settings
    host, token, voms, authority = (
        own.credentials.host_certificate,
        own.credentials.token,
        own.credentials.voms,
        own.pool.certificate_authority,
    )
    return CredentialsArgs(
        site=own.lasting_name,
        namespace=site.namespaces.site,
        priority=site.namespaces.priority,
        image=images.services,
        host_certificate=(
            HostCertificate(certificate=host.certificate, key=host.key.get_secret_value())
            if host.certificate and host.key
            else Reference(namespace=str(host.namespace), name=str(host.secret))
        ),
        token=Reference(namespace=token.namespace, name=token.secret) if token else None,
        authority=(
            None
            if authority is None
            else authority.pem or Reference(namespace=str(authority.namespace), name=str(authority.config_map))
        ),
        voms=(
            Voms(
                organisation=voms.organisation,
                attributes=voms.attributes,
                trust=Reference(namespace=voms.namespace, name=voms.config_map),
            )
            if voms
            else None
        ),
        terms=Terms(
            proxy=own.credentials.proxy_hours,
            refresh=own.credentials.refresh_hours,
            alarm=own.credentials.alarm_hours,
            critical=own.credentials.critical_hours,
        ),
    )


def _nodes(site: Site, images: settings.Images) -> NodesArgs | None:
    own = site.settings
    if own.nodes.mode == "none":
        return None
    return NodesArgs(
        site=own.lasting_name,
        namespace=site.namespaces.site,
        system=site.namespaces.system,
        priority=site.namespaces.priority,
        image=images.services,
        mode=own.nodes.mode,
        quiet_seconds=own.nodes.quiet_seconds,
        cvmfs_path=site.cvmfs.host_path,
        # A driver mounts for the pods that ask, so that on the node there is nothing to look at.
        repositories=own.cvmfs.repositories if site.cvmfs.host_path else (),
    )


def _accounting(site: Site, accounting: settings.Accounting, images: settings.Images) -> AccountingArgs:
    own, bill, budget, ledger = site.settings, accounting.bill, accounting.budget, accounting.ledger
    subscription, groups = "", tuple[str, ...]()
    if isinstance(own, settings.AzureSite):
        subscription = own.cluster.subscription
        groups = (naming.azure(own.lasting_name), naming.azure_nodes(own.lasting_name))
        if own.stage_out and own.stage_out.own:
            groups += (naming.azure_data(own.lasting_name),)
    return AccountingArgs(
        site=own.lasting_name,
        namespace=site.namespaces.site,
        priority=site.namespaces.priority,
        image=images.services,
        currency=accounting.currency,
        per_day=budget.per_day if budget else None,
        per_month=budget.per_month if budget else None,
        core_hour=accounting.core_hour_price,
        vo=accounting.vo,
        hs23=accounting.hs23_per_core,
        bill=Bill(
            source=bill.source,
            identity=bill.identity,
            subscription=bill.subscription or subscription,
            groups=bill.resource_groups or groups,
            table=bill.table or "",
        )
        if bill
        else None,
        bill_hours=bill.hours if bill else 6,
        ledger_mib=ledger.mib if ledger.mode == "claim" else None,
        storage_class=ledger.storage_class,
        series=site.timeseries.series if site.timeseries else _series(accounting.series),
    )


def _series(told: settings.Series | None) -> Series | None:
    """Time series in a database that somebody else looks after."""
    if told is None or told.url is None or told.database is None:
        return None
    return Series(url=told.url, database=told.database, secret=told.secret)


def _place(site: Site, store: settings.Ledger, images: settings.Images) -> database.Place:
    own = site.settings
    return database.Place(
        site=own.lasting_name,
        namespace=site.namespaces.site,
        priority=site.namespaces.priority,
        image=images.timeseries,
        mib=store.mib,
        claim=store.mode == "claim",
        storage_class=store.storage_class,
        readers=own.monitoring.namespace if own.monitoring else None,
    )


def _metrics(
    site: Site, metrics: settings.Metrics, images: settings.Images, hub: settings.Portal | None
) -> MetricsArgs:
    own = site.settings
    name, namespace = own.lasting_name, naming.namespace(own.lasting_name)
    addresses = {"credentials": site.credentials.metrics, **site.squids.metrics}
    if site.accounting:
        addresses[ACCOUNTING] = site.accounting.metrics
    if hub is not None:
        addresses[pusher.NAME] = service.metrics_address(name, pusher.NAME)
        if hub.hub == own.name:
            addresses[portal.NAME] = service.metrics_address(name, portal.NAME)
    hosts = {vacuum.NAME: naming.service_host(vacuum.NAME, namespace)}
    if site.nodes:
        hosts[NODES] = naming.service_host(NODES, namespace)
        hosts[MONITOR] = naming.service_host(MONITOR, naming.system_namespace(name))
    place = _place(site, metrics.store, images)
    return MetricsArgs(place=place, addresses=addresses, hosts=hosts, days=metrics.days)


def _monitoring(site: Site, monitoring: settings.Monitoring) -> MonitoringArgs:
    return MonitoringArgs(
        site=site.settings.lasting_name,
        namespace=site.namespaces.site,
        asker=monitoring.namespace,
        operator=monitoring.operator,
        labels=monitoring.labels,
    )


def _stage_out(site: Site, stage_out: settings.StageOut) -> StageOutArgs:
    made = site.cluster.container
    return StageOutArgs(
        site=site.settings.lasting_name,
        namespace=site.namespaces.site,
        container=made.url if made else str(stage_out.container),
        identity=made.identity if made else None,
        secret=stage_out.secret,
    )


def _startds(site: Site, images: settings.Images) -> StartdsArgs:
    own, startds = site.settings, site.settings.startds
    return StartdsArgs(
        site=own.lasting_name,
        namespace=site.namespaces.site,
        image=images.startd,
        atlas_site=own.atlas_site,
        collector=own.pool.collector,
        trust_domain=own.pool.trust_domain,
        credentials=site.credentials.secret,
        cvmfs_claim=site.cvmfs.claim,
        repositories=own.cvmfs.repositories,
        proxy=site.squids.vip,
        pools=site.cluster.pools or (),
        seccomp_profile=site.seccomp.profile if site.seccomp else None,
        stage_out=site.stage_out.sources if site.stage_out else (),
        account=site.stage_out.account if site.stage_out else None,
        size=StartdSize(
            cores=startds.cores,
            requested_cores=startds.requested_cores or startds.cores,
            memory_mib=startds.memory_mib,
            disk_mib=startds.disk_mib,
        ),
        times=StartdTimes(
            start=startds.start_seconds,
            no_claim=startds.no_claim_seconds,
            drain=startds.drain_seconds,
            lifetime=startds.lifetime_seconds,
            keepalive=own.keepalive_seconds,
        ),
        limits=StartdLimits(
            pods=startds.limits.pods,
            cores=startds.limits.cores,
            memory_mib=startds.limits.memory_mib,
            cost_per_hour=startds.limits.cost_per_hour,
            weight=startds.share.weight,
            floor=startds.share.floor,
        ),
        pace=VacuumPace(
            window_initial=startds.window.initial,
            window_maximum=startds.window.maximum,
            backoff_base=startds.backoff.base_seconds,
            backoff_cap=startds.backoff.cap_seconds,
            update=startds.update,
        ),
    )
