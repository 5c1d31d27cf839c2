"""Combinations of valid values that cannot work: one sentence, without its full stop, for each."""

from collections.abc import Iterator, Sequence

from settings.accounting import accounting_contradictions, ledger_contradictions
from settings.amazon_contradictions import amazon_contradictions
from settings.azure_contradictions import azure_contradictions
from settings.clouds import AmazonSite, AzureSite, CloudSite, GoogleSite, JobPool
from settings.existing import ExistingSite, NodePool
from settings.google_contradictions import google_contradictions
from settings.workload import PILOT_FLOOR_HOURS, AnySite, Credentials, Cvmfs, StageOut, Startds

Site = ExistingSite | CloudSite
# squid's index of its disk cache: 14 MiB of memory for each GiB on 64-bit machines.
SQUID_INDEX_MIB_PER_GIB = 14
# Of the tables of machine types.
LIST_PRICE_CURRENCY = "USD"


def contradictions(sites: Sequence[Site], *, secret: bool) -> Iterator[str]:
    """One sentence, without its full stop, for each combination of valid values that cannot work.

    Args:
        sites: the sites of the stack.
        secret: whether the key `sites` holds an encrypted value.
    """
    for index, site in enumerate(sites):
        path = f"sites[{index}]"
        earlier = sites[:index]
        taken = {name for other in earlier for name in _names(other)} & _names(site)
        if taken:
            yield f"{path}.name is {min(taken)!r} again: each site needs a name of its own"
        if isinstance(site, ExistingSite) and _access(site) in map(_access, _existing(earlier)):
            yield (
                f"{path} is on the same cluster as an earlier site: "
                "give each its own kubeconfig or context, one site fills one cluster"
            )
        yield from (f"{path}.{sentence}" for sentence in _site_contradictions(site, secret=secret))


def _site_contradictions(site: Site, *, secret: bool) -> Iterator[str]:
    yield from _credential_contradictions(site.credentials, secret=secret)
    authority = site.pool.certificate_authority
    if authority is not None:
        referenced = authority.config_map is not None and authority.namespace is not None
        mixed = authority.pem is not None and (authority.config_map or authority.namespace)
        if mixed or not (referenced or authority.pem):
            yield "pool.certificateAuthority must be either pem, or configMap and namespace"
    squid = site.squid
    yield from _needless_destinations(squid.destinations)
    index_mib = squid.cache_mib * SQUID_INDEX_MIB_PER_GIB // 1024
    if index_mib > squid.memory_mib // 4:
        yield (
            f"squid.memoryMib is {squid.memory_mib}: the index of a cache of {squid.cache_mib} MiB takes "
            f"{index_mib} MiB, so allow at least {4 * index_mib}, or lower cacheMib"
        )
    yield from _cvmfs_contradictions(site.cvmfs)
    yield from _startd_contradictions(site.startds)
    yield from _accounting_contradictions(site)
    if site.metrics is not None:
        yield from ledger_contradictions("metrics.store", site.metrics.store)
    if site.stage_out is not None:
        yield from _stage_out_contradictions(site.stage_out, on_azure=isinstance(site, AzureSite))
    if isinstance(site, ExistingSite):
        yield from _pool_contradictions(site.pools or ())
        yield from _cost_contradictions(site)
    else:
        yield from _job_pool_contradictions(site.job_pools)
    if isinstance(site, AzureSite):
        yield from azure_contradictions(site)
    if isinstance(site, GoogleSite):
        yield from google_contradictions(site)
    if isinstance(site, AmazonSite):
        yield from amazon_contradictions(site)


def _names(site: AnySite) -> set[str]:
    return {site.name, *site.former_names}


def _access(site: ExistingSite) -> tuple[str | None, str | None]:
    return site.kubeconfig, site.context


def _existing(sites: Sequence[Site]) -> list[ExistingSite]:
    return [site for site in sites if isinstance(site, ExistingSite)]


def _cvmfs_contradictions(cvmfs: Cvmfs) -> Iterator[str]:
    if cvmfs.mode != "daemonset" and cvmfs.server_url is not None:
        whose = "node's own client" if cvmfs.mode == "host" else "driver"
        yield (
            "cvmfs.serverUrl says where the DaemonSet mounts from: "
            f"leave it out with mode {cvmfs.mode}, where the {whose} decides"
        )
    if cvmfs.mode == "csi" and cvmfs.claim is None:
        yield "cvmfs.claim is missing: with mode csi name the claim of the CVMFS driver (docs/runbooks/cvmfs.md)"
    if cvmfs.mode != "csi" and cvmfs.claim is not None:
        yield f"cvmfs.claim is {cvmfs.claim!r}, but with mode {cvmfs.mode} the claim is made here: leave it out"


def _stage_out_contradictions(stage_out: StageOut, *, on_azure: bool) -> Iterator[str]:
    given = stage_out.container is not None and stage_out.secret is not None
    mixed = stage_out.container is not None or stage_out.secret is not None
    if (stage_out.own is not None and mixed) or not (given or stage_out.own is not None):
        yield "stageOut must be either own, or container and secret"
    elif stage_out.own is not None and not on_azure:
        yield "stageOut.own is made by sites of kind azure: name a container that is there, and the Secret with its SAS"


def _cost_contradictions(site: ExistingSite) -> Iterator[str]:
    unpriced = [pool.name for pool in site.pools or () if pool.price_per_hour is None]
    if site.startds.limits.cost_per_hour is not None and (unpriced or not site.pools):
        what = f"pool {unpriced[0]} has no pricePerHour" if unpriced else "the site names no pools"
        yield (
            f"startds.limits.costPerHour needs to know what a startd costs, and {what}: give it, or leave the limit out"
        )


def _accounting_contradictions(site: Site) -> Iterator[str]:
    if site.accounting is None:
        return
    pools: Sequence[NodePool | JobPool] = (site.pools or ()) if isinstance(site, ExistingSite) else site.job_pools
    yield from accounting_contradictions(
        site.accounting, on_azure=isinstance(site, AzureSite), prices=[pool.price_per_hour for pool in pools]
    )
    if site.accounting.currency != LIST_PRICE_CURRENCY and not isinstance(site, ExistingSite):
        for index, pool in enumerate(site.job_pools):
            if pool.price_per_hour is None:
                yield (
                    f"jobPools[{index}] has no pricePerHour, and list prices are in {LIST_PRICE_CURRENCY}: "
                    f"give it in accounting.currency, {site.accounting.currency}"
                )


def _job_pool_contradictions(pools: Sequence[JobPool]) -> Iterator[str]:
    for index, pool in enumerate(pools):
        same = [other for other in pools[:index] if other.name == pool.name]
        if pool.generation in {other.generation for other in same}:
            yield f"jobPools[{index}] is generation {pool.generation} of pool {pool.name} again: give it the next one"
        if pool.min > pool.max:
            yield f"jobPools[{index}].min is {pool.min}: it must not exceed max, {pool.max}"
    for name in dict.fromkeys(pool.name for pool in pools):
        staying = [pool.generation for pool in pools if pool.name == name and not pool.retiring]
        if len(staying) > 1:
            yield (
                f"jobPools has generations {' and '.join(map(str, staying))} of pool {name}: "
                "write `retiring: true` into all but the newest"
            )


def _pool_contradictions(pools: Sequence[NodePool]) -> Iterator[str]:
    for index, pool in enumerate(pools):
        for other in pools[:index]:
            if pool.name == other.name:
                yield f"pools[{index}].name is {pool.name!r} again: each node pool needs a name of its own"
            elif pool.selector == other.selector:
                yield (
                    f"pools[{index}].selector is that of pool {other.name} too: "
                    "give labels that tell the nodes of one from those of the other"
                )


def _startd_contradictions(startds: Startds) -> Iterator[str]:
    for key, one, all_together in (
        ("cores", startds.cores, startds.limits.cores),
        ("memoryMib", startds.memory_mib, startds.limits.memory_mib),
    ):
        if one > all_together:
            yield (
                f"startds.{key} is {one}: not one startd fits into startds.limits.{key}, {all_together}; "
                "lower the first or raise the second"
            )
    if startds.requested_cores is not None and startds.requested_cores > startds.cores:
        yield (
            f"startds.requestedCores is {startds.requested_cores}: "
            f"a startd cannot request more than its cores, {startds.cores}"
        )
    if startds.share.floor > startds.limits.pods:
        yield (
            f"startds.share.floor is {startds.share.floor}: "
            f"it must not exceed startds.limits.pods, {startds.limits.pods}"
        )
    if startds.window.maximum is not None and startds.window.initial > startds.window.maximum:
        yield (
            f"startds.window.initial is {startds.window.initial}: "
            f"it must not exceed startds.window.maximum, {startds.window.maximum}"
        )
    if startds.lifetime_seconds <= startds.no_claim_seconds + startds.start_seconds:
        yield (
            f"startds.lifetimeSeconds is {startds.lifetime_seconds}: it must be longer than startds.startSeconds and "
            f"startds.noClaimSeconds together, {startds.no_claim_seconds + startds.start_seconds}"
        )
    if startds.backoff.base_seconds > startds.backoff.cap_seconds:
        yield (
            f"startds.backoff.baseSeconds is {startds.backoff.base_seconds}: "
            f"it must not exceed startds.backoff.capSeconds, {startds.backoff.cap_seconds}"
        )


def _needless_destinations(destinations: Sequence[str]) -> Iterator[str]:
    """A destination that another one includes: where it comes first, squid takes the list for a mistake and ends."""
    for index, one in enumerate(destinations):
        for other in (*destinations[:index], *(each for each in destinations[index + 1 :] if each != one)):
            if other == one or (other.startswith(".") and f".{one.removeprefix('.')}".endswith(other)):
                yield f"squid.destinations[{index}] is {one!r}, which {other!r} includes already: leave it out"
                break


def _credential_contradictions(credentials: Credentials, *, secret: bool) -> Iterator[str]:
    host = credentials.host_certificate
    by_name = host.secret is not None and host.namespace is not None and host.certificate is None and host.key is None
    by_value = host.certificate is not None and host.key is not None and host.secret is None and host.namespace is None
    if not (by_name or by_value):
        yield "credentials.hostCertificate must be either secret and namespace, or certificate and key"
    if host.key is not None and not secret:
        yield (
            "credentials.hostCertificate.key is written in clear: set it with `pulumi config set --secret --path`, "
            "and replace the key, which others may have read"
        )
    left = credentials.proxy_hours - credentials.refresh_hours
    if left < PILOT_FLOOR_HOURS:
        yield (
            f"credentials.refreshHours is {credentials.refresh_hours}: a proxy of {credentials.proxy_hours} hours "
            f"would fall to {left} before it is renewed, below the {PILOT_FLOOR_HOURS} that a pilot asks for; "
            f"allowed: at most {credentials.proxy_hours - PILOT_FLOOR_HOURS}"
        )
    elif not credentials.critical_hours <= credentials.alarm_hours <= left:
        yield (
            f"credentials.alarmHours is {credentials.alarm_hours}: it must lie between criticalHours, which is "
            f"{credentials.critical_hours}, and the {left} that are left of a proxy when it is renewed"
        )
    if credentials.voms is not None:
        group = f"/{credentials.voms.organisation}"
        for index, attribute in enumerate(credentials.voms.attributes):
            if attribute != group and not attribute.startswith(f"{group}/"):
                yield (
                    f"credentials.voms.attributes[{index}] is {attribute!r}, which is not in "
                    f"{credentials.voms.organisation}: it must be {group} or begin with {group}/"
                )
