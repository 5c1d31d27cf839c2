"""Proxies of the dev site's certificate, as the pool takes them, with what a virtual organisation says or without."""

import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from local import certificates, packages
from local.authority import pem, write
from local.progress import Progress
from services.credentials.inputs import PROXY_CERTIFICATE_INFORMATION
from services.credentials.proxy import INHERIT_ALL
from services.credentials.voms import ATTRIBUTE_CERTIFICATES

LIFE = timedelta(hours=96)
PROGRAMS = {"/usr/bin/voms-proxy-fake": "voms-clients"}


def proxy(
    certificate: x509.Certificate, key: rsa.RSAPrivateKey, *, life: timedelta = LIFE, says: bytes | None = None
) -> str:
    """An RFC 3820 proxy, its key, and the certificate that it is made from.

    Args:
        certificate: of the site.
        key: of that.
        life: from now on.
        says: attribute certificates that it bears, in DER form.
    """
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now, serial = datetime.now(UTC), x509.random_serial_number() >> 96
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*certificate.subject, x509.NameAttribute(NameOID.COMMON_NAME, str(serial))]))
        .issuer_name(certificate.subject)
        .public_key(own.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + life)
        .add_extension(x509.UnrecognizedExtension(PROXY_CERTIFICATE_INFORMATION, INHERIT_ALL), critical=True)
    )
    if says is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(ATTRIBUTE_CERTIFICATES, says), critical=False)
    return b"".join((pem(builder.sign(key, hashes.SHA256())), pem(own), pem(certificate))).decode()


@dataclass(frozen=True)
class Voms:
    """Makes proxies with attributes that the grid's own program has signed, in the place of a VOMS server.

    That program signs its proxies by SHA-1 where, as here, the authority's key is elliptic. OpenSSL believes none of
    these; so the attributes are taken out of one.
    """

    directory: Path
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def __post_init__(self) -> None:
        packages.ensure(PROGRAMS, purpose="VOMS", log=self.directory / "apt.log", progress=Progress(total=0))
        now = datetime.now(UTC)
        authority = certificates.authority(now)
        for name, leaf in (("host", certificates.SITE), ("voms", certificates.POOL)):
            write(self.directory / f"{name}.key", pem(self.key))
            write(self.directory / f"{name}.pem", pem(authority.issue(leaf, self.key, now)))

    def proxy(self, life: timedelta) -> str:
        """One that is good for so long, of an hour at most."""
        subprocess.run(
            [
                *("voms-proxy-fake", "-rfc", "-quiet", "-hours", "1", "-vomslife", "1", "-out", "proxy"),
                *("-cert", "host.pem", "-key", "host.key", "-hostcert", "voms.pem", "-hostkey", "voms.key"),
                *("-voms", "atlas", "-uri", "localhost:15000", "-fqan", "/atlas/Role=production/Capability=NULL"),
            ],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), "X509_CERT_DIR": str(self.directory)},
            capture_output=True,
            timeout=60,
            check=True,
        )
        made, host = x509.load_pem_x509_certificates((self.directory / "proxy").read_bytes())
        says = made.extensions.get_extension_for_oid(ATTRIBUTE_CERTIFICATES).value
        return proxy(host, self.key, life=life, says=says.public_bytes())
