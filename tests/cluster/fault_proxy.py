"""A proxy of the tests' own between the controller and the API server, on which things may go wrong."""

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http.client import HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
UPSTREAM_SECONDS = 400.0


class Where(Enum):
    """When the connection is cut: before the server heard of the request, or after it has answered."""

    BEFORE = auto()
    AFTER = auto()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call.

    Attributes:
        write: its number among the writes that are not about the Lease, from 0; None for all other calls.
    """

    verb: str
    path: str
    write: int | None

    @property
    def watches(self) -> bool:
        return "watch=1" in self.path


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with a call.

    Attributes:
        cut: the connection, when; None to answer in the server's place.
        status, headers: of that answer.
        hang: seconds before that.
    """

    cut: Where | None = None
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    hang: float = 0.0


@dataclass
class FaultProxy:
    """Passes calls on, and asks of each what is to go wrong with it.

    Attributes:
        plan: the question.
        met: the faults that were met, in order.
    """

    server: str
    tls: ssl.SSLContext
    plan: Callable[[Request], Fault | None] = lambda _request: None
    met: list[Request] = field(default_factory=list)
    slow: float = 0.0
    _writes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = UPSTREAM_SECONDS

            def _serve(self) -> None:
                proxy._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815  as http.server calls them

            def log_message(self, *_: object) -> None:
                """Nothing: a call a line would be all of the test's output."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def restart_count(self) -> None:
        """Counts writes from 0 again, as of a new controller."""
        with self._lock:
            self._writes = 0

    def _number(self, verb: str, path: str) -> int | None:
        if verb not in WRITES or "/leases" in path or "/events" in path:
            return None
        with self._lock:
            self._writes += 1
            return self._writes - 1

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        request = Request(verb=handler.command, path=handler.path, write=self._number(handler.command, handler.path))
        fault = self.plan(request)
        if fault is not None:
            self.met.append(request)
            time.sleep(fault.hang)
            if fault.cut is Where.BEFORE:
                handler.close_connection = True
                return
            if fault.cut is None:
                self._answer(handler, fault)
                return
        upstream = HTTPSConnection(
            urlsplit(self.server).hostname or "", urlsplit(self.server).port, context=self.tls, timeout=UPSTREAM_SECONDS
        )
        try:
            headers = {k: v for k, v in handler.headers.items() if k.lower() not in {"host", "accept-encoding"}}
            upstream.request(handler.command, handler.path, body=body or None, headers=headers)
            answer = upstream.getresponse()
            if fault is not None:
                answer.read()
                handler.close_connection = True
                return
            handler.send_response(answer.status)
            for name in ("Content-Type", "Retry-After"):
                if value := answer.headers.get(name):
                    handler.send_header(name, value)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.close_connection = True
            while line := answer.readline() if request.watches else answer.read():
                if request.watches:
                    time.sleep(self.slow)
                handler.wfile.write(line)
                handler.wfile.flush()
        except OSError:
            handler.close_connection = True
        finally:
            upstream.close()

    def _answer(self, handler: BaseHTTPRequestHandler, fault: Fault) -> None:
        text = b'{"kind":"Status","status":"Failure","reason":"Test","message":"the proxy says so"}'
        handler.send_response(fault.status)
        for name, value in fault.headers:
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)
