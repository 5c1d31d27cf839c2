"""The Secret that startds mount: what it holds, and what is to be changed in it.

Pure, but for the making of a new proxy, for which a VOMS server may be asked. Each of its parts is replaced only by one
that was checked, and what cannot be replaced stays.
"""

import base64
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.hashes import SHA256

from services.credentials import proxy, voms
from services.credentials.inputs import SKEW, Host, Problem, Refused, Token, read_token, said
from services.credentials.proxy import Proxy
from services.credentials.voms import Voms
from services.kube import Json
from services.times import seconds, timestamp

PROXY = "proxy"
TOKEN = "token"  # noqa: S105  the name of a key
AUTHORITY = "ca.pem"

EXPIRES = "atlas-sites.io/expires"
RENEWED = "atlas-sites.io/renewed"
FINGERPRINT = "atlas-sites.io/fingerprint"
ATTRIBUTES = "atlas-sites.io/attributes"
# Refreshers of many sites that were started together shall not stay together.
JITTER = 0.1


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the Secret holds.

    Attributes:
        uid: of the Secret.
        version: that was read, and that a change is for.
        data: by key.
        annotations: all of them.
        renewed: when the proxy was made; None if nobody says.
    """

    uid: str
    version: str
    data: Mapping[str, bytes]
    annotations: Mapping[str, str]
    renewed: datetime | None


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What there is to fill the Secret with; None where a part is not wanted, a problem where it cannot be used."""

    host: Host | Problem
    token: Token | Problem | None
    authority: bytes | Problem | None
    voms: Voms | Problem | None = None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What lifetimes are wanted of proxies.

    Attributes:
        life: that is asked for.
        period: between two.
        alarm: one with less left is a problem.
        critical: one with less left is of no use to pilots, which refuse to start on it.
    """

    life: timedelta = timedelta(hours=96)
    period: timedelta = timedelta(hours=6)
    alarm: timedelta = timedelta(hours=80)
    critical: timedelta = timedelta(hours=72)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done.

    Attributes:
        patch: for the API server, refused by it if the Secret has changed since; None if there is nothing to do.
        proxy: the good one that the Secret then holds, if any.
        renewed: whether it is a new one.
        failed: whether there should have been a new one.
        ends: when the proxy, its VOMS attributes, the certificate and the token end, as far as there are any.
        problems: that a person has to put right.
    """

    patch: Json | None
    proxy: Proxy | None
    renewed: bool
    failed: bool
    ends: Mapping[str, datetime]
    problems: tuple[Problem, ...]


def held_of(secret: Json) -> Held:
    """The Secret as it was read."""
    meta = secret["metadata"]
    annotations = meta.get("annotations") or {}
    try:
        renewed = seconds(annotations.get(RENEWED))
    except ValueError:
        renewed = None
    return Held(
        uid=meta["uid"],
        version=meta["resourceVersion"],
        data={key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()},
        annotations=annotations,
        renewed=datetime.fromtimestamp(renewed, UTC) if renewed is not None else None,
    )


def good(held: Held, now: datetime) -> Proxy | None:
    """The proxy in the Secret, if a reader would accept it."""
    try:
        return proxy.read(held.data.get(PROXY, b""), now)
    except Refused:
        return None


def patience(held: Held, period: timedelta, *, starting: bool) -> timedelta:
    """How old a good proxy may get: a period, or a little less, by chance; half of it when we have only just begun."""
    chance = zlib.crc32(f"{held.uid} {held.renewed}".encode()) / 2**32
    return period / 2 if starting else period * (1 - JITTER * chance)


def fingerprint(host: Host) -> str:
    """What tells one host certificate from another, as `openssl x509 -fingerprint -sha256` prints it."""
    return host.certificate.fingerprint(SHA256()).hex(":").upper()


def decide(held: Held, sources: Sources, now: datetime, *, terms: Terms, most: timedelta) -> Plan:
    """What is to be changed in the Secret, in one go.

    Args:
        held: what it holds.
        sources: what there is to fill it with.
        now: the time.
        terms: of proxies.
        most: the age at which a good proxy is replaced.
    """
    data: dict[str, bytes | None] = {}
    annotations: dict[str, str | None] = {}
    given = (sources.host, sources.token, sources.authority, sources.voms)
    problems = [each for each in given if isinstance(each, Problem)]
    best, renewed, host = good(held, now), held.renewed, sources.host
    due = _due(held, best, sources, now, most)
    if due and isinstance(host, Host) and not isinstance(sources.voms, Problem):
        kept = best if _wanted(held, sources) else None
        try:
            made, best = _new(host, sources.voms, kept, now, terms.life)
        except Refused as refused:
            problems.append(refused.problem)
        else:
            renewed = now
            data[PROXY] = made
            annotations = {RENEWED: timestamp(now.timestamp()), FINGERPRINT: fingerprint(host)}
            if held.annotations.get(ATTRIBUTES) != _attributes(sources.voms):
                annotations[ATTRIBUTES] = _attributes(sources.voms)
    token = _token(held, sources, now, data)
    if sources.authority is None and AUTHORITY in held.data:
        data[AUTHORITY] = None
    elif isinstance(sources.authority, bytes) and held.data.get(AUTHORITY) != sources.authority:
        data[AUTHORITY] = sources.authority
    ends = {
        what: end
        for what, end in (
            ("proxy", best.expires if best else None),
            ("attributes", best.membership.expires if best and best.membership else None),
            ("certificate", host.expires if isinstance(host, Host) else None),
            ("token", token.expires if token else None),
        )
        if end is not None
    }
    inside = [ends[what] for what in ("proxy", "token") if what in ends]
    if inside and held.annotations.get(EXPIRES) != timestamp(min(inside).timestamp()):
        annotations[EXPIRES] = timestamp(min(inside).timestamp())
    return Plan(
        patch=_patch(held, data, annotations) if data or annotations else None,
        proxy=best,
        renewed=PROXY in data,
        failed=due and PROXY not in data,
        ends=ends,
        problems=(*problems, *_warnings(host, best, renewed, now, terms)),
    )


def _due(held: Held, kept: Proxy | None, sources: Sources, now: datetime, most: timedelta) -> bool:
    """Whether the proxy is to be replaced; one of another certificate or with other attributes is, however young."""
    if kept is None or held.renewed is None or not held.renewed - SKEW <= now < held.renewed + most:
        return True
    return not _wanted(held, sources)


def _wanted(held: Held, sources: Sources) -> bool:
    """Whether the proxy is of the certificate, and with the attributes, that are wanted; as far as that is known."""
    host = sources.host
    other = isinstance(host, Host) and held.annotations.get(FINGERPRINT) != fingerprint(host)
    if not isinstance(sources.voms, Problem):
        other = other or held.annotations.get(ATTRIBUTES) != _attributes(sources.voms)
    return not other


def _attributes(wanted: Voms | None) -> str | None:
    return ",".join(wanted.attributes) if wanted else None


def _new(host: Host, wanted: Voms | None, kept: Proxy | None, now: datetime, life: timedelta) -> tuple[bytes, Proxy]:
    """A new proxy, as it is written and as it is read.

    Args:
        host: whose it is.
        wanted: what it shall say beside that.
        kept: the one that it shall replace, if that is as wanted, but for its age.
        now: the time.
        life: that is asked for.

    Raises:
        Refused: it cannot be made, would not be accepted, or is no better than the one that is kept.
    """
    if wanted is None:
        made = proxy.make(host, life, now)
        return made, proxy.read(made, now)
    made = voms.make(host, wanted, min(life, host.expires - now))
    new = proxy.read(made, now)
    lacking = voms.missing(wanted, new.membership.attributes if new.membership else ())
    if lacking:
        raise Refused(
            "VomsAttributeMissing",
            f"VOMS of {wanted.organisation}: the server left out {', '.join(lacking)}; ask the organisation for the "
            "role, or ask for less",
        )
    if kept is not None and new.expires <= kept.expires:
        raise _grants_less(life)
    return made, new


def _grants_less(life: timedelta) -> Refused:
    return Refused(
        "VomsGrantsLess",
        f"proxy: its VOMS attributes end sooner than the {life // timedelta(hours=1)} hours that were asked for; ask "
        "the organisation to grant more",
    )


def _token(held: Held, sources: Sources, now: datetime, data: dict[str, bytes | None]) -> Token | None:
    """The token that the Secret shall hold; if it is another one, it goes into the data."""
    before = held.data.get(TOKEN)
    if isinstance(sources.token, Token):
        if before != sources.token.text:
            data[TOKEN] = sources.token.text
        return sources.token
    if before is None:
        return None
    if sources.token is None:
        data[TOKEN] = None
        return None
    try:
        return read_token(before, now)
    except Refused:
        return None


def _warnings(
    host: Host | Problem, best: Proxy | None, renewed: datetime | None, now: datetime, terms: Terms
) -> Iterator[Problem]:
    """What will become a problem."""
    if best is not None and best.membership is not None and renewed is not None:
        asked = min(renewed + terms.life, host.expires if isinstance(host, Host) else best.membership.expires)
        if best.membership.expires < asked - SKEW:
            yield _grants_less(terms.life).problem
    if isinstance(host, Host) and host.expires < now + terms.life:
        yield Problem(
            reason="CertificateEndsSoon",
            sentence=f"hostcert: it ends at {said(host.expires)}, sooner than a proxy should; get another",
        )
    if best is None:
        return
    if best.expires < now + terms.critical:
        yield Problem(
            reason="ProxyBelowFloor",
            sentence=f"proxy: it ends at {said(best.expires)}, and pilots refuse to start with less than "
            f"{terms.critical // timedelta(hours=1)} hours left; put right what keeps it from being renewed for longer",
        )
    elif best.expires < now + terms.alarm:
        yield Problem(
            reason="ProxyEndsSoon",
            sentence=f"proxy: it ends at {said(best.expires)}, in less than {terms.alarm // timedelta(hours=1)} hours; "
            "put right what keeps it from being renewed for longer",
        )


def _patch(held: Held, data: Mapping[str, bytes | None], annotations: Mapping[str, str | None]) -> Json:
    return {
        "metadata": {"uid": held.uid, "resourceVersion": held.version, "annotations": dict(annotations)},
        "data": {key: None if value is None else base64.b64encode(value).decode() for key, value in data.items()},
    }
