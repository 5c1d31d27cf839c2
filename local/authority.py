"""A certificate authority of our own: the dev site's node has one, the stand-in for the experiment has another."""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.refusal import Refusal

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

AUTHORITY_LIFE = timedelta(days=3650)
# A clock that is set back a little must not make a new certificate one of the future.
BACKDATE = timedelta(minutes=5)

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A certificate to be made: who it names, what for, at which addresses, and for how long.

    Attributes:
        name: its file's.
        user: the common name.
        group: the organization, which RBAC calls a group.
        usages: as client, as server, or both.
        addresses: alternative names.
        hosts: alternative names.
        life: from when it is made to when it ends.
        renew_before: it is made anew when less than this is left.
    """

    name: str
    user: str
    group: str | None = None
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT,)
    addresses: tuple[IPv4Address, ...] = ()
    hosts: tuple[str, ...] = ()
    life: timedelta
    renew_before: timedelta

    @property
    def subject(self) -> x509.Name:
        """Its distinguished name."""
        return _distinguished(self.user, self.group)

    @property
    def alternative_names(self) -> list[x509.GeneralName]:
        """Addresses first."""
        return [*(x509.IPAddress(address) for address in self.addresses), *(x509.DNSName(host) for host in self.hosts)]


@dataclass(frozen=True, kw_only=True)
class Authority:
    """What signs leaves."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def ensure(cls, name: str, key_file: Path, certificate_file: Path, now: datetime) -> "Authority":
        """The authority in these two files, made now if there is none.

        Raises:
            Refusal: the files cannot be read.
        """
        # The certificate is written last: where it is, its key is.
        if certificate_file.exists():
            try:
                key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
                certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            except (OSError, ValueError) as error:
                raise Refusal(
                    f"{certificate_file}: no use as an authority ({error}); `make down`, then `make up` makes another"
                ) from None
            assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - narrows the type of a file that we wrote
            return cls(key=key, certificate=certificate)
        key = elliptic()
        subject = _distinguished(name, None)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        write(key_file, pem(key))
        write(certificate_file, pem(certificate))
        return cls(key=key, certificate=certificate)

    def issue(self, leaf: Leaf, key: Key, now: datetime) -> x509.Certificate:
        """A leaf's certificate, for this key of its."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(leaf.subject)
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATE)
            .not_valid_after(now + leaf.life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
            # Without its own, the grid's programs make no proxy of it.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if leaf.alternative_names:
            builder = builder.add_extension(x509.SubjectAlternativeName(leaf.alternative_names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def vouches(self, leaf: Leaf, certificate_file: Path, key_file: Path, now: datetime) -> bool:
        """Whether the files hold that leaf and its key, signed by us, for all its names, and not about to end."""
        try:
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            certificate.verify_directly_issued_by(self.certificate)
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError, InvalidSignature):
            return False
        try:
            names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        except x509.ExtensionNotFound:
            names = []
        return (
            key.public_key() == certificate.public_key()
            and certificate.subject == leaf.subject
            and names == leaf.alternative_names
            and certificate.not_valid_after_utc - now > leaf.renew_before
        )


def elliptic() -> ec.EllipticCurvePrivateKey:
    """A new key for our own daemons: quick to make."""
    return ec.generate_private_key(ec.SECP256R1())


def pem(thing: Key | x509.Certificate) -> bytes:
    """A key or certificate as PEM."""
    if isinstance(thing, x509.Certificate):
        return thing.public_bytes(serialization.Encoding.PEM)
    return thing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def write(place: Path, content: bytes) -> None:
    """Writes a file that nobody else can read, whole or not at all."""
    fresh = place.with_name(f".{place.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:  # noqa: PTH123 - a descriptor
        sink.write(content)
    fresh.replace(place)


def _distinguished(user: str, group: str | None) -> x509.Name:
    organization = [] if group is None else [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)]
    return x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
