"""A stand-in for the clouds' billing APIs: a server on loopback that gives recorded answers; not the real thing."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What is answered to one request."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Bill:
    """The server, what it was asked and what it answers, one after the other."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, Any], Mapping[str, str]]] = field(default_factory=list)


@contextmanager
def serving(answers: Callable[[str], list[Answer]]) -> Iterator[Bill]:
    """A server with answers that may hold its own address."""
    bill = Bill()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            bill.asked.append((self.command, self.path, json.loads(content or b"{}"), dict(self.headers)))
            answer = bill.answers.pop(0) if bill.answers else Answer(status=410, body={"message": "no more answers"})
            body = b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for key, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815  of the standard library

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    bill.url = f"http://127.0.0.1:{server.server_port}"
    bill.answers = answers(bill.url)
    try:
        yield bill
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
