"""What the refresher is given, checked: the host certificate and its key, the pool's token, the pool's authority.

Pure: bytes and the time of day go in; what can be used, or one sentence for each mistake, comes out.
"""

import base64
import functools
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

# The clocks of those who make and read credentials may differ by so much.
SKEW = timedelta(minutes=5)
# OpenSSL refuses weaker keys at the security level of current distributions.
LEAST_BITS = {"RSA": 2048, "EC": 224}

PROXY_CERTIFICATE_INFORMATION = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14")

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that a person has to put right.

    Attributes:
        reason: one word in camel case, for Events and metrics.
        sentence: where, what and the remedy, without the full stop; the same as long as the problem is the same.
    """

    reason: str
    sentence: str


class Refused(Exception):
    """What was given cannot be used."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.problem = Problem(reason=reason, sentence=sentence)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host certificate that can be used.

    Attributes:
        chain: the certificate, then those that came with it.
        key: of the first.
    """

    chain: tuple[x509.Certificate, ...]
    key: Key

    @property
    def certificate(self) -> x509.Certificate:
        """The one that names the host."""
        return self.chain[0]

    @property
    def expires(self) -> datetime:
        """When the first of the chain ends, and with it all that is made from it."""
        return min(certificate.not_valid_after_utc for certificate in self.chain)


@dataclass(frozen=True, kw_only=True)
class Token:
    """A pool token.

    Attributes:
        text: as it was given.
        expires: None if it does not end.
    """

    text: bytes
    expires: datetime | None


def check(certificate_pem: bytes, key_pem: bytes, now: datetime) -> list[str]:
    """One sentence, without its full stop, for each reason why no proxy can be made from a host certificate."""
    return [problem.sentence for problem in _examine(certificate_pem, key_pem, now)[1]]


def read_host(certificate_pem: bytes, key_pem: bytes, now: datetime) -> Host:
    """A host certificate with its key.

    Raises:
        Refused: for the first of the reasons that `check` tells.
    """
    host, problems = _examine(certificate_pem, key_pem, now)
    if host is None:
        raise Refused(problems[0].reason, problems[0].sentence)
    return host


def read_token(text: bytes, now: datetime) -> Token:
    """A token; its signature is the pool's to check.

    Raises:
        Refused: it is no token, or it has ended.
    """
    try:
        _, payload, _ = text.strip().split(b".")
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
        ends = claims.get("exp")
        expires = None if ends is None else datetime.fromtimestamp(ends, UTC)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):
        raise Refused(
            "TokenUnreadable",
            "token: it is not a token in JWT form; put in a SciToken, or what condor_token_create printed",
        ) from None
    if expires is not None and expires <= now + SKEW:
        raise Refused("TokenExpired", f"token: it ended at {said(expires)}; ask the pool for another")
    return Token(text=text, expires=expires)


def read_authority(pem: bytes, now: datetime) -> bytes:
    """The certificates of those who signed the pool's.

    Raises:
        Refused: it holds none, or all of them have ended.
    """
    certificates = _certificates(pem, "ca.pem", "Authority")
    if all(certificate.not_valid_after_utc <= now for certificate in certificates):
        last = max(certificate.not_valid_after_utc for certificate in certificates)
        raise Refused("AuthorityExpired", f"ca.pem: it ended at {said(last)}; ask the pool for its present one")
    return pem


def said(time: datetime) -> str:
    """A time in a sentence."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _examine(certificate_pem: bytes, key_pem: bytes, now: datetime) -> tuple[Host | None, list[Problem]]:
    problems: list[Problem] = []
    chain: tuple[x509.Certificate, ...] = ()
    key: Key | None = None
    try:
        chain = _certificates(certificate_pem, "hostcert", "Certificate")
        problems += _problems_of(chain[0], now)
        problems += [
            Problem(
                reason="CertificateExpired",
                sentence=f"hostcert: one that follows the first ended at {said(above.not_valid_after_utc)}; "
                "get another, or leave it out",
            )
            for above in chain[1:]
            if above.not_valid_after_utc <= now + SKEW
        ]
    except Refused as refused:
        problems.append(refused.problem)
    try:
        key = _key(key_pem)
    except Refused as refused:
        problems.append(refused.problem)
    if chain and key is not None and not _belongs(key, chain[0]):
        problems.append(
            Problem(
                reason="KeyMismatch",
                sentence="hostkey: it is not the key of the first certificate in hostcert; give the two files that "
                "were issued together",
            )
        )
    host = Host(chain=chain, key=key) if chain and key is not None and not problems else None
    return host, problems


def _certificates(pem: bytes, name: str, what: str) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        found = "it holds a private key and no certificate" if b"PRIVATE KEY-----" in pem else "it is not one"
        raise Refused(f"{what}Unreadable", f"{name}: a certificate in PEM form is needed, and {found}") from None


@functools.lru_cache(maxsize=2)  # checking that its numbers are primes takes a tenth of a second, each minute
def _key(pem: bytes) -> Key:
    if b"ENCRYPTED" in pem:
        raise Refused(
            "KeyEncrypted",
            "hostkey: it is encrypted, and nobody is there to type its passphrase; decrypt it with "
            "`openssl pkey -in hostkey.pem -out plain.pem` and give that",
        )
    try:
        key: object = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        found = "it holds a certificate and no key" if b"BEGIN CERTIFICATE" in pem else "it is not one"
        raise Refused("KeyUnreadable", f"hostkey: a private key in PEM form is needed, and {found}") from None
    except UnsupportedAlgorithm:
        key = None
    if not isinstance(key, Key):
        raise Refused("KeyUnusable", "hostkey: it is neither RSA nor EC, and grid software takes no other")
    kind = "RSA" if isinstance(key, rsa.RSAPrivateKey) else "EC"
    if key.key_size < LEAST_BITS[kind]:
        raise Refused(
            "KeyWeak",
            f"hostkey: it has {key.key_size} bits, and OpenSSL takes no {kind} key with less than {LEAST_BITS[kind]}; "
            "get a certificate with a larger one",
        )
    return key


def _belongs(key: Key, certificate: x509.Certificate) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):  # a kind of key that we do not know, so it is not this one
        return False


def _problems_of(certificate: x509.Certificate, now: datetime) -> list[Problem]:
    """What is wrong with a host certificate by itself."""
    problems: list[Problem] = []

    def found(reason: str, sentence: str) -> None:
        problems.append(Problem(reason=reason, sentence=f"hostcert: {sentence}"))

    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begins > now + SKEW:
        found("CertificateNotYetValid", f"it begins only at {said(begins)}; is the clock here right?")
    if ends <= now + SKEW:
        found("CertificateExpired", f"it ended at {said(ends)}; get another from your certificate authority")
    try:
        extensions = certificate.extensions
    except ValueError as error:
        found("CertificateUnreadable", f"its extensions cannot be read ({error}); get another")
        return problems
    uses = {extension.oid: extension.value for extension in extensions}
    basic = uses.get(x509.BasicConstraints.oid)
    if isinstance(basic, x509.BasicConstraints) and basic.ca:
        found("CertificateUnusable", "it is an authority's; the first in the file must be the host's")
    if PROXY_CERTIFICATE_INFORMATION in uses:
        found("CertificateUnusable", "it is a proxy itself; give the certificate that it was made from")
    usage = uses.get(x509.KeyUsage.oid)
    if isinstance(usage, x509.KeyUsage) and not usage.digital_signature:
        found("CertificateUnusable", "its key usage lacks digitalSignature, so it cannot sign a proxy; get another")
    purposes = uses.get(x509.ExtendedKeyUsage.oid)
    if isinstance(purposes, x509.ExtendedKeyUsage) and not (
        {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes)
    ):
        found("CertificateUnusable", "its extended key usage lacks clientAuth, so the pool refuses it; get another")
    return problems
