"""Throw-away host certificates, as a grid authority would give them: one for the dev site, one for its pool."""

import json
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from local import commands
from local.authority import CLIENT, SERVER, Authority, Leaf, pem, write
from local.paths import state_dir
from local.refusal import Refusal
from services.credentials.inputs import check

ORGANIZATION = "atlas-sites.example"
POOL_HOST = "cm.pool.svc.cluster.local"
KEY_BITS = 2048
SECRET = "atlas-cert"  # noqa: S105  its name

LIFE = timedelta(days=199)  # grid authorities give no more
RENEW_BEFORE = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Host(Leaf):
    """A host's certificate. It is shown to servers as well: a proxy made from it is a client's."""

    group: str | None = ORGANIZATION
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT, SERVER)
    life: timedelta = LIFE
    renew_before: timedelta = RENEW_BEFORE


SITE = Host(name="host", user="dev.atlas-sites.example", hosts=("dev.atlas-sites.example",))
POOL = Host(name="pool", user=POOL_HOST, hosts=(POOL_HOST,))


def directory() -> Path:
    """Where they lie: `ca.pem`, `hostcert.pem` and `hostkey.pem`, `poolcert.pem` and `poolkey.pem`."""
    return state_dir() / "certificates"


def ensure(now: datetime | None = None) -> None:
    """Makes what is missing, and renews a host's certificate when less than a week of it is left.

    Each file appears whole or not at all. A key is written before its certificate; where an interruption left two
    that do not belong together, both are made anew.

    Raises:
        Refusal: there is an authority that cannot be read.
    """
    now = now or datetime.now(UTC)
    directory().mkdir(parents=True, exist_ok=True)
    directory().chmod(0o700)
    signer = authority(now)
    for host in (SITE, POOL):
        if not signer.vouches(host, certificate_file(host), key_file(host), now):
            # Of the kind that grid software expects; our own daemons take any.
            key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
            write(key_file(host), pem(key))
            write(certificate_file(host), pem(signer.issue(host, key, now)))


def authority(now: datetime) -> Authority:
    """Who signs for the dev site and its pool, made if need be."""
    return Authority.ensure("dev authority", directory() / "ca-key.pem", authority_file(), now)


def authority_file() -> Path:
    """The certificate of the authority that signed both."""
    return directory() / "ca.pem"


def certificate_file(host: Host) -> Path:
    """A host's certificate."""
    return directory() / f"{host.name}cert.pem"


def key_file(host: Host) -> Path:
    """The key of a host's certificate."""
    return directory() / f"{host.name}key.pem"


def distinguished_name(host: Host) -> str:
    """Whom a host's certificate names, in OpenSSL's form with slashes."""
    return f"/O={host.group}/CN={host.user}"


def is_throw_away(certificate: bytes) -> bool:
    """Whether a certificate is one that this module made for the site, now or on another day: it bears that name."""
    try:
        named = x509.load_pem_x509_certificate(certificate).subject
    except ValueError:
        return False
    return named.rfc4514_string() == f"CN={SITE.user},O={SITE.group}"


def upload(kubeconfig: Path) -> None:
    """The talk's command, word for word. A Secret that is there already is the user's, and stays.

    Raises:
        Refusal: no proxy can be made from what is in it.
    """
    held = _held(kubeconfig)
    own = certificate_file(SITE)
    if held is not None and is_throw_away(held.get("hostcert", b"")):
        if held["hostcert"] == own.read_bytes():
            return
        _kubectl(kubeconfig, "delete", "secret", SECRET)
        held = None
    if held is None:
        _kubectl(
            kubeconfig, "create", "secret", "generic", SECRET,
            f"--from-file=hostcert={own}", f"--from-file=hostkey={key_file(SITE)}",
        )  # fmt: skip
        return
    mistakes = check(held.get("hostcert", b""), held.get("hostkey", b""), datetime.now(UTC))
    if mistakes:
        raise Refusal(
            f"Secret {SECRET} of namespace default: {'; '.join(mistakes)}; replace it, or delete it "
            f"(`kubectl delete secret {SECRET}`) for a throw-away one"
        )


def remove(kubeconfig: Path) -> None:
    """Deletes the throw-away certificate, and never a user's."""
    if is_throw_away((_held(kubeconfig) or {}).get("hostcert", b"")):
        _kubectl(kubeconfig, "delete", "secret", SECRET)


def _held(kubeconfig: Path) -> dict[str, bytes] | None:
    """What is in the Secret with the host certificate; none if there is no such Secret."""
    text = _kubectl(kubeconfig, "get", "secret", SECRET, "--ignore-not-found", "--output=json")
    if not text:
        return None
    return {key: b64decode(value) for key, value in (json.loads(text).get("data") or {}).items()}


def _kubectl(kubeconfig: Path, *words: str) -> str:
    return commands.output(
        ["kubectl", "--kubeconfig", kubeconfig, "--namespace=default", "--request-timeout=20s", *words],
        what=f"certificate: kubectl {words[0]}",
        seconds=30,
    )
