"""Short-lived certificates made from a host's own (RFC 3820), and the check that whoever is shown one makes.

A proxy says who made it; the attributes of a virtual organisation come in as one more extension (voms.py).
"""

import functools
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from services.credentials.inputs import PROXY_CERTIFICATE_INFORMATION, SKEW, Host, Refused, said
from services.credentials.voms import ATTRIBUTE_CERTIFICATES, Membership, membership

KEY_BITS = 2048
# ProxyCertInfo { ProxyPolicy { id-ppl-inheritAll } }: whoever holds it may all that the host may.
INHERIT_ALL = bytes.fromhex("300c300a06082b06010505071501")

_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy that a reader would accept.

    Attributes:
        certificate: the proxy's own.
        issuer: the certificate that it was made from.
        expires: when the first of the whole chain, or of its VOMS attributes, ends.
        membership: what its VOMS attributes say; None if it has none.
    """

    certificate: x509.Certificate
    issuer: x509.Certificate
    expires: datetime
    membership: Membership | None = None


def make(host: Host, life: timedelta, now: datetime) -> bytes:
    """A new proxy in PEM form: its certificate, its key, then the host's certificate and what came with it.

    It begins a little before now, for readers whose clock is late, and ends with its issuer if not earlier.
    """
    now = now.replace(microsecond=0)
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    serial = x509.random_serial_number()
    name = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, str(serial))])
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(host.certificate.subject)
        .subject_name(x509.Name([*host.certificate.subject.rdns, name]))
        .serial_number(serial)
        .public_key(key.public_key())
        .not_valid_before(max(now - SKEW, host.certificate.not_valid_before_utc))
        .not_valid_after(min(now + life, host.expires))
        .add_extension(x509.UnrecognizedExtension(PROXY_CERTIFICATE_INFORMATION, INHERIT_ALL), critical=True)
        .add_extension(_usage(), critical=True)
        .sign(host.key, SHA256())
    )
    return b"".join(
        [
            certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
            *(above.public_bytes(Encoding.PEM) for above in host.chain),
        ]
    )


def read(pem: bytes, now: datetime) -> Proxy:
    """A proxy, checked as one would who is shown it, up to the host certificate.

    Raises:
        Refused: it is broken, or it is not its time.
    """
    chain = _chain(pem)
    begins = max(member.not_valid_before_utc for member in chain)
    expires = min(member.not_valid_after_utc for member in chain)
    member_of = membership(pem) if _has_attributes(chain[0]) else None
    if member_of is not None:
        expires = min(expires, member_of.expires)
    if not begins - SKEW <= now < expires - SKEW:
        raise Refused("ProxyExpired", f"proxy: it is good from {said(begins)} to {said(expires)} only")
    return Proxy(certificate=chain[0], issuer=chain[1], expires=expires, membership=member_of)


@functools.lru_cache(maxsize=2)  # checking a key takes a tenth of a second, and each minute it is the same one
def _chain(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The proxy's certificate, its issuer, and what came with that, whatever the time is."""
    try:
        certificate, issuer, *above = x509.load_pem_x509_certificates(pem)
        key = load_pem_private_key(b"\n".join(_KEY.findall(pem)), password=None)
        information = certificate.extensions.get_extension_for_oid(PROXY_CERTIFICATE_INFORMATION)
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature, UnsupportedAlgorithm) as error:
        raise Refused("ProxyBroken", f"proxy: it cannot be used ({error or type(error).__name__})") from None
    names, own = issuer.subject.rdns, certificate.subject.rdns
    added = [attribute.oid for name in own[len(names) :] for attribute in name]
    if not information.critical or own[: len(names)] != names or added != [NameOID.COMMON_NAME]:
        raise Refused("ProxyBroken", "proxy: it is not one as RFC 3820 has it")
    if certificate.public_key() != key.public_key():
        raise Refused("ProxyBroken", "proxy: its key is another's")
    return (certificate, issuer, *above)


def _has_attributes(certificate: x509.Certificate) -> bool:
    return any(extension.oid == ATTRIBUTE_CERTIFICATES for extension in certificate.extensions)


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
