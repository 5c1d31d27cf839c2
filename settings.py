"""What a stack may say, and the one reader of `pulumi.Config`.

A stack file is closed: a key that is not here is a mistake, and every mistake is one sentence with the path of the key,
what is wrong and what is allowed. All of them are told at once, before a resource is declared.
"""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import pulumi
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

import mistakes
from components import naming
from components.namespaces import METADATA_NETWORKS

DEV_STACK = "dev"
IMAGE_NAMES = ("startd", "squid", "services", "cvmfs")

# The shortest idle time-out that a site may meet by default is 240 s (Azure's NAT gateway); 1.2 is the margin.
KEEPALIVE_MAX_SECONDS = 200
# A pilot refuses to start on a proxy with fewer hours left, so one that is about to be refreshed must have more.
PILOT_FLOOR_HOURS = 72
# squid's index of its disk cache: 14 MiB of memory for each GiB on 64-bit machines.
SQUID_INDEX_MIB_PER_GIB = 14


def _allowed(matches: Callable[[str], bool], words: str) -> AfterValidator:
    """A check of a string, with what is allowed in words, for the sentence."""

    def check(value: str) -> str:
        if not matches(value):
            raise PydanticCustomError("not_allowed", "{words}", {"words": words})
        return value

    return AfterValidator(check)


def _like(pattern: str, words: str) -> AfterValidator:
    return _allowed(lambda value: re.fullmatch(pattern, value) is not None, words)


def _is_network(text: str) -> bool:
    try:
        return ipaddress.ip_network(text).prefixlen > 0
    except ValueError:
        return False


def _is_pool_network(text: str) -> bool:
    return _is_network(text) and not any(_overlap(text, closed) for closed in METADATA_NETWORKS)


def _overlap(one: str, other: str) -> bool:
    first, second = ipaddress.ip_network(one), ipaddress.ip_network(other)
    return first.version == second.version and first.overlaps(second)


def _is_host_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return (
        re.fullmatch(_HOST, host) is not None
        and re.fullmatch("[1-9][0-9]{0,4}", port) is not None
        and int(port) < 2**16
    )


def _is_certificates(text: str) -> bool:
    return re.fullmatch(rf"\s*({_CERTIFICATE}\s*)+", text) is not None


def _private_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", text) is None or "ENCRYPTED" in text:
        raise PydanticCustomError("not_allowed", "a private key in PEM form, without a passphrase", {})
    return value


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_VALUE = r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_LABEL_KEY = rf"({_HOST}/)?[A-Za-z0-9]([A-Za-z0-9._-]{{0,61}}[A-Za-z0-9])?"
_CERTIFICATE = r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----"

LabelKey = Annotated[str, _like(_LABEL_KEY, "the key of a Kubernetes label or taint")]
LabelValue = Annotated[str, _like(_LABEL_VALUE, "the value of a Kubernetes label or taint")]
SiteName = Annotated[str, _allowed(naming.is_site_name, naming.SITE_NAME_ALLOWED)]
ObjectName = Annotated[str, _like(_HOST, "the name of a Kubernetes object")]
AtlasSite = Annotated[str, _like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "letters, digits, '_', '.' and '-', at most 64")]
Word = Annotated[str, _like(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "letters, digits, '_', '.' and '-'")]
HostPort = Annotated[str, _allowed(_is_host_port, "a lower-case host name and a port, as in pool.example.org:9618")]
Destination = Annotated[
    str, _like(rf"\.?{_HOST}", "a host name without port, or one with a leading dot for all hosts of a domain")
]
Repository = Annotated[
    str, _like(rf"{_LABEL}(\.{_LABEL})+", "the full name of a CVMFS repository, as in atlas.cern.ch")
]
Url = Annotated[str, _like(r"https?://[^\s|;]+", "an http:// or https:// address")]
Network = Annotated[str, _allowed(_is_network, "a network in CIDR form, as in 192.0.2.0/24, but not all networks")]
PoolNetwork = Annotated[
    str,
    _allowed(_is_pool_network, "a network in CIDR form, as in 192.0.2.0/24, without the clouds' metadata servers"),
]
# Nothing else, above all no key: these reach a ConfigMap and the state in clear.
Certificates = Annotated[str, _allowed(_is_certificates, "certificates in PEM form, and nothing else")]
FilePath = Annotated[str, _like(r"[^\x00-\x1f]{1,1024}", "the path of a file")]
PrivateKey = Annotated[SecretStr, AfterValidator(_private_key)]
Registry = Annotated[str, _like(rf"{_HOST}(:[0-9]+)?(/[a-z0-9._-]+)*", "a registry and path, as in ghcr.io/example")]
Digest = Annotated[
    str, _like(r"sha256:[0-9a-f]{64}", "a digest, sha256: and 64 hexadecimal digits; a tag can be moved")
]
CvmfsImage = Annotated[
    str,
    _like(
        r"(\S+@)?sha256:[0-9a-f]{64}", "a digest, or a full reference with a digest: name@sha256:…; a tag can be moved"
    ),
]


def _known_kind(value: object) -> object:
    if value in ("azure", "gcp", "aws"):
        raise PydanticCustomError(
            "not_allowed",
            "existing; this version cannot make clusters: make one and give its kubeconfig and context",
            {},
        )
    return value


class _Closed(BaseModel):
    """Keys are camelCase in YAML; unknown keys, wrong types and later changes are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel)


class CertificateAuthority(_Closed):
    """Who signed the pool's host certificates: PEM text, or the key `ca.pem` of a ConfigMap in the site's cluster."""

    pem: Certificates | None = None
    config_map: ObjectName | None = None
    namespace: ObjectName | None = None


class Pool(_Closed):
    """The central pool that the site's startds join."""

    collector: HostPort
    trust_domain: Word
    certificate_authority: CertificateAuthority | None = None
    # Private networks that startds must reach for the pool; all other private addresses are closed to them.
    networks: tuple[PoolNetwork, ...] = ()


class HostCertificate(_Closed):
    """The Secret (keys hostcert, hostkey) with the host certificate, or both parts as Pulumi secrets."""

    secret: ObjectName | None = None
    namespace: ObjectName | None = None
    certificate: Certificates | None = None
    key: PrivateKey | None = None


class Token(_Closed):
    """The Secret (key token) with a pool token."""

    secret: ObjectName
    namespace: ObjectName


class Credentials(_Closed):
    """What startds prove themselves with to the pool."""

    host_certificate: HostCertificate
    token: Token | None = None
    proxy_hours: Annotated[int, Field(ge=PILOT_FLOOR_HOURS + 1, le=24 * 14)] = 96
    refresh_hours: Annotated[int, Field(ge=1)] = 6


class Squid(_Closed):
    """The site's web caches."""

    replicas: Annotated[int, Field(ge=1, le=20)] = 2
    destinations: Annotated[tuple[Destination, ...], Field(min_length=1)]
    clients: tuple[Network, ...] = ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
    cache_mib: Annotated[int, Field(ge=64, le=1024 * 1024)] = 50 * 1024
    memory_mib: Annotated[int, Field(ge=96, le=256 * 1024)] = 4096


class Cvmfs(_Closed):
    """The software repositories, mounted by a DaemonSet of ours or (mode host) already there at /cvmfs of each node."""

    mode: Literal["daemonset", "host"] = "daemonset"
    repositories: Annotated[tuple[Repository, ...], Field(min_length=1)]
    server_url: Url | None = None
    quota_mib: Annotated[int, Field(ge=256, le=1024 * 1024)] = 20 * 1024


class Limits(_Closed):
    """How much the site's startds may use together."""

    pods: Annotated[int, Field(ge=1, le=100_000)]
    cores: Annotated[int, Field(ge=1)]
    memory_mib: Annotated[int, Field(ge=256)]
    cost_per_hour: Annotated[float, Field(gt=0)] | None = None


class Window(_Closed):
    """How many startds may run that have not shown yet that there is work."""

    initial: Annotated[int, Field(ge=1)] = 4
    maximum: Annotated[int, Field(ge=1)] | None = None


class Backoff(_Closed):
    """How long the site waits when startds find no work: doubling from base to cap."""

    base_seconds: Annotated[int, Field(ge=10)] = 600
    cap_seconds: Annotated[int, Field(ge=10, le=24 * 3600)] = 3600


class Startds(_Closed):
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
    window: Window = Window()
    backoff: Backoff = Backoff()


class Taint(_Closed):
    """What keeps pods off a node that do not tolerate it."""

    key: LabelKey
    value: LabelValue = ""
    effect: Literal["NoSchedule", "NoExecute"]


class NodePool(_Closed):
    """Nodes of one shape, of which an autoscaler may make more: how the vacuum controller knows what it may ask for."""

    name: ObjectName
    selector: Annotated[dict[LabelKey, LabelValue], Field(min_length=1)]
    max: Annotated[int, Field(ge=0, le=100_000)]
    cores: Annotated[float, Field(gt=0, le=1024)]
    memory_mib: Annotated[int, Field(ge=256)]
    disk_mib: Annotated[int, Field(ge=1024)]
    # The kubelet's default.
    pods: Annotated[int, Field(ge=1, le=1000)] = 110
    taints: tuple[Taint, ...] = ()
    price_per_hour: Annotated[float, Field(gt=0)] | None = None


class ExistingSite(_Closed):
    """A site on a cluster that is already there."""

    name: SiteName
    kind: Annotated[Literal["existing"], BeforeValidator(_known_kind)]
    kubeconfig: FilePath | None = None
    context: str | None = None
    atlas_site: AtlasSite
    pool: Pool
    credentials: Credentials
    squid: Squid
    cvmfs: Cvmfs
    startds: Startds
    # None is unknown, an empty list no autoscaler.
    pools: tuple[NodePool, ...] | None = None
    keepalive_seconds: Annotated[int, Field(ge=30, le=KEEPALIVE_MAX_SECONDS)] = 180


# Becomes a union, discriminated by `kind`, with the first kind of cluster that a stack can make.
Site = ExistingSite


class Digests(_Closed):
    """The images of a release, by digest."""

    startd: Digest
    squid: Digest
    services: Digest
    cvmfs: CvmfsImage


class Published(_Closed):
    """Images in a registry."""

    registry: Registry
    digests: Digests


class Images(_Closed):
    """A full reference for each image."""

    startd: str
    squid: str
    services: str
    cvmfs: str


class Settings(_Closed):
    """All that a stack says, checked."""

    images: Images
    sites: tuple[Site, ...]


def load() -> Settings:
    """The settings of the running stack.

    Raises:
        pulumi.RunError: one sentence for each mistake in them; the engine prints it without a traceback.
    """
    config = pulumi.Config()
    secret = pulumi.runtime.is_config_secret(config.full_key("sites"))
    images, found = _images(config.get("images"), pulumi.get_stack())
    sites, more = _sites(config.get("sites"), secret=secret)
    if found or more or images is None:
        raise pulumi.RunError("\n".join([f"Pulumi.{pulumi.get_stack()}.yaml cannot be used:", *found, *more]))
    return Settings(images=images, sites=sites)


def _images(raw: str | None, stack: str) -> tuple[Images | None, list[str]]:
    if raw is None:
        return None, [
            (
                "images is missing: write `images: local` in stack dev, "
                "elsewhere the block that `make images PUSH=<registry>` prints."
            )
        ]
    if raw == "local":
        if stack != DEV_STACK:
            return None, [
                (
                    f"images is local, which only stack {DEV_STACK} may use: "
                    "publish them with `make images PUSH=<registry>` and paste the block it prints."
                )
            ]
        return _built_images()
    if not raw.startswith("{"):
        return None, [f"images is {raw!r}; allowed: local (in stack {DEV_STACK}), or a block of registry and digests."]
    published, found = _parsed(TypeAdapter(Published), Published, raw, "images")
    if published is None:
        return None, found
    digests = published.digests
    own = {name: f"{published.registry}/{name}@{getattr(digests, name)}" for name in IMAGE_NAMES}
    if "@" in digests.cvmfs:
        own["cvmfs"] = digests.cvmfs
    return Images(**own), []


def _built_images() -> tuple[Images | None, list[str]]:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    file = Path(os.environ.get("ATLAS_SITES_IMAGES") or state / "atlas-sites" / "images.json")
    try:
        built = json.loads(file.read_text())
        return Images(**{name: built[name] for name in IMAGE_NAMES}), []
    except FileNotFoundError:
        return None, [f"images is local, but none have been built here ({file} is missing): run `make up`."]
    except (OSError, ValueError, KeyError, TypeError):
        return None, [f"images is local, but {file} does not name all of {', '.join(IMAGE_NAMES)}: run `make up`."]


def _sites(raw: str | None, *, secret: bool) -> tuple[tuple[Site, ...], list[str]]:
    if raw is None:
        return (), ["sites is missing: list at least one site; Pulumi.dev.yaml shows every key."]
    sites, found = _parsed(TypeAdapter(Annotated[tuple[Site, ...], Field(min_length=1)]), Site, raw, "sites")
    if sites is None:
        return (), found
    return sites, [f"{sentence}." for sentence in contradictions(sites, secret=secret)]


def contradictions(sites: Sequence[Site], *, secret: bool) -> Iterator[str]:
    """One sentence, without its full stop, for each combination of valid values that cannot work.

    Args:
        sites: the sites of the stack.
        secret: whether the key `sites` holds an encrypted value.
    """
    for index, site in enumerate(sites):
        path = f"sites[{index}]"
        earlier = sites[:index]
        if site.name in {other.name for other in earlier}:
            yield f"{path}.name is {site.name!r} again: each site needs a name of its own"
        if (site.kubeconfig, site.context) in {(other.kubeconfig, other.context) for other in earlier}:
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
    if site.cvmfs.mode == "host" and site.cvmfs.server_url is not None:
        yield (
            "cvmfs.serverUrl says where the DaemonSet mounts from: "
            "leave it out with mode host, where the node's own client decides"
        )
    yield from _startd_contradictions(site.startds)
    yield from _pool_contradictions(site.pools or ())
    unpriced = [pool.name for pool in site.pools or () if pool.price_per_hour is None]
    if site.startds.limits.cost_per_hour is not None and (unpriced or not site.pools):
        what = f"pool {unpriced[0]} has no pricePerHour" if unpriced else "the site names no pools"
        yield (
            f"startds.limits.costPerHour needs to know what a startd costs, and {what}: give it, or leave the limit out"
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


Value = TypeVar("Value")


def _parsed(adapter: TypeAdapter[Value], model: type[BaseModel], raw: str, root: str) -> tuple[Value | None, list[str]]:
    """The value of a configuration key, or one sentence for each mistake in it."""
    try:
        return adapter.validate_json(raw), []
    except ValidationError as error:
        return None, mistakes.sentences(root, model, error)
