"""A stand-in for a VOMS server: it speaks the protocol to the real client; voms-proxy-fake signs what it grants.

It keeps no members and no roles: whoever has a certificate of the authority gets what is asked for.
"""

import base64
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

from services.credentials.voms import ATTRIBUTE_CERTIFICATES

Mood = Literal["grants", "refuses"]
ORGANISATION = "atlas"
SECONDS = 30.0


@dataclass
class Server:
    """Answers until it is stopped.

    Attributes:
        directory: holds voms.pem, voms.key, host.pem, host.key and ca.pem.
        mood: how it answers now.
        hours: that it grants at most.
        attributes: that it grants in place of what is asked for, if any.
        asked: lifetimes that it was asked for, in seconds.
    """

    directory: Path
    mood: Mood = "grants"
    hours: int = 96
    attributes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.asked: list[int] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.directory / "voms.pem", self.directory / "voms.key")
        self._tls.load_verify_locations(self.directory / "ca.pem")
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._tls.verify_flags |= ssl.VERIFY_ALLOW_PROXY_CERTS
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        """Answers nobody any more."""
        if self._socket.fileno() < 0:
            return
        self._socket.shutdown(socket.SHUT_RDWR)  # or the thread that waits in accept would take one more
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(raw,), daemon=True).start()

    def _answer(self, raw: socket.socket) -> None:
        raw.settimeout(SECONDS)
        try:
            with self._tls.wrap_socket(raw, server_side=True) as connection:
                body = self._body(_request(connection)).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
        except OSError:
            raw.close()

    def _body(self, line: str) -> str:
        if self.mood == "refuses":
            return (
                '<?xml version="1.0"?><voms><error><code>NoSuchUser</code>'
                "<message>Unknown user</message></error></voms>"
            )
        if not line.startswith("GET"):
            return ""  # the protocol's older form, which a client tries when it was not answered in time
        query = parse_qs(urlsplit(line.split()[1]).query)
        lifetime = int(query["lifetime"][0])
        self.asked.append(lifetime)
        attributes = self.attributes or tuple(query["fqans"][0].split(","))
        granted = base64.encodebytes(self._signed(min(lifetime // 3600, self.hours), attributes)).decode()
        return f'<?xml version="1.0"?><voms><ac>{granted}</ac></voms>'

    def _signed(self, hours: int, attributes: tuple[str, ...]) -> bytes:
        """An attribute certificate, out of a proxy that is thrown away."""
        made = self.directory / f"fake-{threading.get_ident()}.pem"
        subprocess.run(
            [
                *("voms-proxy-fake", "-rfc", "-quiet", "-hours", str(hours), "-vomslife", str(hours)),
                *("-cert", "host.pem", "-key", "host.key", "-hostcert", "voms.pem", "-hostkey", "voms.key"),
                *("-voms", ORGANISATION, "-uri", f"localhost:{self.port}", "-out", str(made)),
                *(word for each in attributes for word in ("-fqan", f"{each}/Capability=NULL")),
            ],
            cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), "X509_CERT_DIR": str(self.directory)},
            capture_output=True,
            timeout=30,
            check=True,
        )
        proxy = x509.load_pem_x509_certificates(made.read_bytes())[0]
        made.unlink()
        extension = proxy.extensions.get_extension_for_oid(ATTRIBUTE_CERTIFICATES).value
        assert isinstance(extension, x509.UnrecognizedExtension)
        return _inside(_inside(extension.value))


def _request(connection: ssl.SSLSocket) -> str:
    """The request's first line. A byte that Globus sends before it says that no delegation is wanted."""
    received = b""
    while not received.endswith((b"\n\n", b"\r\n\r\n", b"</voms>")):
        more = connection.recv(4096)
        if not more:
            break
        received += more
    return received.decode().removeprefix("0").splitlines()[0]


def _inside(sequence: bytes) -> bytes:
    """The contents of a DER sequence."""
    length = sequence[1]
    return sequence[2 + (length & 0x7F if length & 0x80 else 0) :]
