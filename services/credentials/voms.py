"""VOMS: that the host, or the robot, belongs to a virtual organisation, as its server signs it into a proxy.

Nothing here speaks to a server or judges a signature: the grid's own programs do both, and say what is in a proxy.
"""

import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.credentials.inputs import Host, Refused

# Its presence in a certificate says that there are attributes.
ATTRIBUTE_CERTIFICATES = x509.ObjectIdentifier("1.3.6.1.4.1.8005.100.100.5")
SERVERS = "vomses"
AUTHORITIES = "ca.pem"
SIGNERS = ".lsc"

CONNECTION_SECONDS = 30
# Each server of the list, by each of the protocol's two forms, may be waited for.
PROGRAM_SECONDS = 240.0

_UNREACHABLE = re.compile(r"connect|ssl|timeout|timed out|resolv|refused|network|host", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Voms:
    """What a proxy shall say, and who may sign it.

    Attributes:
        organisation: the virtual organisation's name.
        attributes: groups and roles, as in /atlas/Role=production; the first is the one that counts.
        servers: the lines of a vomses file.
        signers: file name, as in voms.example.org.lsc → the names of the server's certificate and of its authority.
        authorities: that are trusted.
    """

    organisation: str
    attributes: tuple[str, ...]
    servers: bytes
    signers: tuple[tuple[str, bytes], ...]
    authorities: tuple[x509.Certificate, ...]


@dataclass(frozen=True, kw_only=True)
class Membership:
    """What a proxy says.

    Attributes:
        attributes: groups and roles.
        expires: when the first of them ends.
    """

    attributes: tuple[str, ...]
    expires: datetime


def read_trust(data: Mapping[str, bytes], organisation: str, attributes: tuple[str, ...]) -> Voms:
    """What the ConfigMap holds.

    Raises:
        Refused: no server of that organisation, no certificate or no signer is in it.
    """
    try:
        authorities = tuple(x509.load_pem_x509_certificates(data[AUTHORITIES]))
    except ValueError:
        raise Refused("VomsUnreadable", f"{AUTHORITIES}: certificates in PEM form are needed; put them in") from None
    if f'"{organisation}"'.encode() not in data[SERVERS]:
        raise Refused("VomsUnreadable", f'{SERVERS}: it names no server of "{organisation}"; put its line in')
    signers = tuple(sorted((name, content) for name, content in data.items() if name.endswith(SIGNERS)))
    if not signers:
        raise Refused("VomsUnreadable", f"no key ends in {SIGNERS}; put in HOST{SIGNERS} of each server")
    return Voms(
        organisation=organisation,
        attributes=attributes,
        servers=data[SERVERS],
        signers=signers,
        authorities=authorities,
    )


def make(host: Host, wanted: Voms, life: timedelta) -> bytes:
    """A new proxy in PEM form with the attributes that the server grants, signatures and chain checked.

    Raises:
        Refused: the server does not answer, says no, or is not believed.
    """
    minutes = int(life.total_seconds()) // 60
    with _laid_out(host, wanted) as directory:
        made = directory / "proxy"
        done = _run(
            directory,
            *("voms-proxy-init", "-rfc", "-quiet", "-bits", "2048", "-timeout", str(CONNECTION_SECONDS)),
            *("-valid", f"{minutes // 60}:{minutes % 60:02}", "-vomses", f"{directory}/{SERVERS}"),
            *("-cert", f"{directory}/hostcert", "-key", f"{directory}/hostkey", "-out", str(made)),
            *(word for fqan in wanted.attributes for word in ("-voms", f"{wanted.organisation}:{fqan}")),
        )
        if done.returncode != 0:
            raise _refusal(wanted.organisation, done.stdout + done.stderr)
        if _run(directory, "voms-verify", X509_USER_CERT=str(made)).returncode != 0:
            raise Refused(
                "ChainUntrusted",
                f"proxy: its chain does not lead to an authority in {AUTHORITIES} that is good now; add the one that "
                "signed hostcert",
            )
        return made.read_bytes()


@functools.lru_cache(maxsize=4)  # each minute it is the same one
def membership(pem: bytes) -> Membership:
    """What a proxy with attributes says, and until when.

    Raises:
        Refused: it cannot be read.
    """
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "proxy"
        _write(file, pem)
        (Path(name) / "certificates").mkdir()  # the program wants one, though it is empty
        done = _run(Path(name), "voms-proxy-info", "-file", str(file), "-actimeleft", "-fqan")
    lines = done.stdout.split()
    left = [int(line) for line in lines if line.isdecimal()]
    attributes = tuple(re.sub(r"(/Role=NULL)?(/Capability=NULL)?$", "", line) for line in lines if line[0] == "/")
    if done.returncode != 0 or not left or not attributes:
        raise Refused("ProxyBroken", "proxy: its VOMS attributes cannot be read")
    return Membership(attributes=attributes, expires=datetime.now(UTC) + timedelta(seconds=min(left)))


def missing(wanted: Voms, attributes: tuple[str, ...]) -> list[str]:
    """What is wanted and not there."""
    return [attribute for attribute in wanted.attributes if attribute not in attributes]


@contextmanager
def _laid_out(host: Host, wanted: Voms) -> Iterator[Path]:
    """A private directory, in memory in our pod, with all that the programs read."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        signers, authorities = directory / "vomsdir" / wanted.organisation, directory / "certificates"
        signers.mkdir(parents=True)
        authorities.mkdir()
        for file, content in wanted.signers:
            (signers / file).write_bytes(content)
        for index, authority in enumerate(wanted.authorities):
            (authorities / f"{index}.pem").write_bytes(authority.public_bytes(Encoding.PEM))
        _run(directory, "openssl", "rehash", str(authorities))
        (directory / SERVERS).write_bytes(wanted.servers)
        (directory / SERVERS).chmod(0o644)  # the program takes no other
        (directory / "hostcert").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in host.chain))
        key = host.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        _write(directory / "hostkey", key)
        yield directory


def _run(directory: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(directory),
        "X509_CERT_DIR": str(directory / "certificates"),
        "X509_VOMS_DIR": str(directory / "vomsdir"),
        **more,
    }
    try:
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise Refused("VomsUnreachable", f"{words[0]} did not end; is a VOMS server hanging?") from None


def _write(file: Path, content: bytes) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as opened:
        opened.write(content)


def _refusal(organisation: str, said: str) -> Refused:
    """What voms-proxy-init meant: it tells by text alone."""
    if "verif" in said:
        return Refused(
            "VomsUnverified",
            f"VOMS of {organisation}: what the server granted does not bear its signature, or not at this time; check "
            f"the keys HOST{SIGNERS} and {AUTHORITIES}, and the clock here",
        )
    told = [line.strip() for line in said.splitlines() if "rror:" in line or "rror from" in line]
    reason = "; ".join(told) or "it gives no reason"
    if _UNREACHABLE.search(reason):
        return Refused(
            "VomsUnreachable",
            f"VOMS of {organisation}: no server in {SERVERS} answers ({reason}); is it up, and may this pod reach it?",
        )
    return Refused(
        "VomsRefused",
        f"VOMS of {organisation}: the server grants nothing ({reason}); is hostcert registered there, with what is "
        "asked for?",
    )
