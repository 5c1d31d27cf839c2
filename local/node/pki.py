"""The node's certificates: one authority, a leaf for each component, and the kubeconfigs that carry them."""

import base64
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from local.node.layout import (
    API_PORT,
    API_SERVICE_ADDRESS,
    CLUSTER_DOMAIN,
    NODE_ADDRESS,
    NODE_NAME,
    Layout,
)

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
# A clock that is set back a little must not make a new certificate one of the future.
BACKDATE = timedelta(minutes=5)

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
API_SERVICE_NAMES = tuple(
    f"kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", f".default.svc.{CLUSTER_DOMAIN}")
)


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A certificate to be made: who it names (`group` is what RBAC calls so), what for, and at which addresses."""

    name: str
    user: str
    group: str | None = None
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENT,)
    addresses: tuple[IPv4Address, ...] = ()
    hosts: tuple[str, ...] = ()
    kubeconfig: bool = True


LEAVES = (
    Leaf(
        name="apiserver",
        user="kube-apiserver",
        usages=(SERVER,),
        addresses=(NODE_ADDRESS, API_SERVICE_ADDRESS),
        hosts=API_SERVICE_NAMES,
        kubeconfig=False,
    ),
    Leaf(name="apiserver-to-kubelet", user="kube-apiserver", group="system:masters", kubeconfig=False),
    Leaf(
        name="kubelet",
        user=f"system:node:{NODE_NAME}",
        group="system:nodes",
        usages=(CLIENT, SERVER),
        addresses=(NODE_ADDRESS,),
        hosts=(NODE_NAME,),
    ),
    Leaf(
        name="controller-manager",
        user="system:kube-controller-manager",
        usages=(CLIENT, SERVER),
        addresses=(NODE_ADDRESS,),
    ),
    Leaf(name="scheduler", user="system:kube-scheduler", usages=(CLIENT, SERVER), addresses=(NODE_ADDRESS,)),
    Leaf(name="proxy", user="system:kube-proxy"),
    Leaf(name="admin", user="admin", group="system:masters"),
)


def ensure(layout: Layout, now: datetime | None = None) -> None:
    """Makes what is missing, and renews a leaf that ends within a month or was made for other names.

    Each file appears whole or not at all, and a leaf's key is in the file of its certificate, so an interruption
    leaves nothing that does not fit together.
    """
    now = now or datetime.now(UTC)
    layout.pki.mkdir(parents=True, exist_ok=True)
    layout.pki.chmod(0o700)
    key, authority = _authority(layout.pki, now)
    if not service_account_key(layout).exists():
        _write(service_account_key(layout), _pem(ec.generate_private_key(ec.SECP256R1())))
    for leaf in LEAVES:
        if not is_good(leaf, leaf_file(layout, leaf.name), authority, now):
            leaf_key = ec.generate_private_key(ec.SECP256R1())
            certificate = issue(leaf, leaf_key.public_key(), key, authority, now)
            _write(leaf_file(layout, leaf.name), certificate.public_bytes(serialization.Encoding.PEM) + _pem(leaf_key))
        if leaf.kubeconfig:
            place = kubeconfig_file(layout, leaf.name)
            text = kubeconfig(authority_file(layout).read_bytes(), leaf_file(layout, leaf.name).read_bytes())
            if not place.exists() or place.read_text() != text:
                _write(place, text.encode())


def authority_file(layout: Layout) -> Path:
    """The authority's certificate, without its key."""
    return layout.pki / "ca.crt"


def authority_key(layout: Layout) -> Path:
    """The authority's key."""
    return layout.pki / "ca.key"


def service_account_key(layout: Layout) -> Path:
    """The key that signs the tokens of service accounts."""
    return layout.pki / "service-accounts.key"


def leaf_file(layout: Layout, name: str) -> Path:
    """A leaf's certificate and key, in one file."""
    return layout.pki / f"{name}.pem"


def kubeconfig_file(layout: Layout, name: str) -> Path:
    """The kubeconfig that carries a leaf."""
    return layout.kubeconfig if name == "admin" else layout.pki / f"{name}.kubeconfig"


def kubeconfig(authority: bytes, identity: bytes) -> str:
    """A kubeconfig for our API server.

    Args:
        authority: its certificate as PEM.
        identity: certificate and key of the user as PEM.
    """
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": NODE_NAME,
                    "cluster": {
                        "server": f"https://{NODE_ADDRESS}:{API_PORT}",
                        "certificate-authority-data": base64.b64encode(authority).decode(),
                    },
                }
            ],
            "users": [
                {
                    "name": NODE_NAME,
                    "user": {
                        "client-certificate-data": base64.b64encode(identity).decode(),
                        "client-key-data": base64.b64encode(identity).decode(),
                    },
                }
            ],
            "contexts": [{"name": NODE_NAME, "context": {"cluster": NODE_NAME, "user": NODE_NAME}}],
            "current-context": NODE_NAME,
        },
        indent=2,
    )


def issue(
    leaf: Leaf,
    public: ec.EllipticCurvePublicKey,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    now: datetime,
) -> x509.Certificate:
    """A leaf's certificate, signed by the authority's key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_subject(leaf.user, leaf.group))
        .issuer_name(authority.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    names = _alternative_names(leaf)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def is_good(leaf: Leaf, file: Path, authority: x509.Certificate, now: datetime) -> bool:
    """Whether a file holds that leaf, signed by this authority, for all its names, and not about to end."""
    if not file.exists():
        return False
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    try:
        certificate.verify_directly_issued_by(authority)
    except InvalidSignature:
        return False
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        names = []
    return (
        certificate.subject == _subject(leaf.user, leaf.group)
        and names == _alternative_names(leaf)
        and certificate.not_valid_after_utc - now > RENEW_BEFORE
    )


def _authority(directory: Path, now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_file, certificate_file = directory / "ca.key", directory / "ca.crt"
    # The certificate is written last: where it is, its key is.
    if certificate_file.exists():
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - narrows the type of a file that we wrote
        return key, x509.load_pem_x509_certificate(certificate_file.read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject(f"{NODE_NAME} authority", None)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_file, _pem(key))
    _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))
    return key, certificate


def _subject(user: str, group: str | None) -> x509.Name:
    organization = [] if group is None else [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)]
    return x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _alternative_names(leaf: Leaf) -> list[x509.GeneralName]:
    return [*(x509.IPAddress(address) for address in leaf.addresses), *(x509.DNSName(host) for host in leaf.hosts)]


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


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write(place: Path, content: bytes) -> None:
    fresh = place.with_name(f".{place.name}.new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:  # noqa: PTH123 - a descriptor
        sink.write(content)
    fresh.replace(place)
