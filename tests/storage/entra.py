"""A stand-in for Entra ID: it gives a token for that of a pod, and keeps what it was asked, and checks nothing."""

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs

from tests.storage.azurite import Azurite

TENANT = "00000000-0000-0000-0000-00000000000d"
HOUR = 3600


class Entra:
    """One server, with the certificate of the storage.

    Attributes:
        asked: the forms that it was sent.
        audience: for which it gives tokens.
    """

    def __init__(self, server: Azurite) -> None:
        self.asked: list[dict[str, str]] = []
        self.audience = "https://storage.azure.com"
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(server.certificate, server.key)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._http.server_port}/"
        self._thread = threading.Thread(target=self._http.serve_forever)

    def __enter__(self) -> "Entra":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join(30)
        self._http.server_close()

    def token(self) -> str:
        """For the storage, or whatever else the audience is."""
        now = int(time.time())
        issuer = f"https://sts.windows.net/{TENANT}/"
        claims = {"aud": self.audience, "iss": issuer, "iat": now, "nbf": now, "exp": now + HOUR, "tid": TENANT}
        parts = (json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "AA"])

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        entra = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                home = f"{entra.url}{TENANT}"
                self._tell(
                    {
                        "issuer": f"{home}/v2.0",
                        "authorization_endpoint": f"{home}/oauth2/v2.0/authorize",
                        "token_endpoint": f"{home}/oauth2/v2.0/token",
                    }
                )

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                entra.asked.append({name: values[0] for name, values in form.items()})
                self._tell({"token_type": "Bearer", "expires_in": HOUR, "access_token": entra.token()})

            def _tell(self, what: dict[str, object]) -> None:
                body = json.dumps(what).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Says nothing."""

        return Handler
