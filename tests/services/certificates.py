"""Host certificates, tokens and keys to try the refresher with, made on the spot."""

import base64
import functools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AUTHORITY_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])


@functools.cache
def key(name: str = "RSA") -> CertificateIssuerPrivateKeyTypes:
    """A key; of one name always the same, since making one takes a while. A name begins with its kind."""
    if name.startswith("EC"):
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if name == "RSA weak" else 2048)


def key_pem(name: str = "RSA", passphrase: bytes | None = None, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    """The key of that name as a file holds it."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key(name).private_bytes(Encoding.PEM, form, encryption)


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A certificate to be made; what is not said is as it should be."""

    key: str = "RSA"
    subject: x509.Name = field(
        default_factory=lambda: x509.Name(
            [
                # As real authorities write them: not all parts are UTF-8, and a proxy must repeat them bit by bit.
                x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "example", _ASN1Type.IA5String),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Grid", _ASN1Type.PrintableString),
                x509.NameAttribute(NameOID.COMMON_NAME, "host/site.example"),
            ]
        )
    )
    begins: datetime = NOW - DAY
    ends: datetime = NOW + 30 * DAY
    authority: bool = False
    signs: bool = True
    purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@functools.cache
def certificate(wish: Wish = Wish()) -> bytes:
    """A certificate in PEM form; for one wish always the same."""
    usage = x509.KeyUsage(
        digital_signature=wish.signs,
        key_encipherment=True,
        key_cert_sign=wish.authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .issuer_name(AUTHORITY_NAME)
        .subject_name(AUTHORITY_NAME if wish.authority else wish.subject)
        .serial_number(x509.random_serial_number())
        .public_key(key(wish.key).public_key())
        .not_valid_before(wish.begins)
        .not_valid_after(wish.ends)
        .add_extension(x509.BasicConstraints(ca=wish.authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    if wish.purposes and not wish.authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(wish.purposes), critical=False)
    return builder.sign(key("EC authority"), SHA256()).public_bytes(Encoding.PEM)


def authority() -> bytes:
    """The certificate of who signed all others."""
    return certificate(Wish(key="EC authority", authority=True, ends=NOW + 3650 * DAY))


def token(expires: datetime | None = NOW + 7 * DAY) -> bytes:
    """A token, signed by nobody."""
    claims = {"sub": "startd@pool.example", **({"exp": int(expires.timestamp())} if expires else {})}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"}, claims)]
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (*parts, b"signature")) + b"\n"
