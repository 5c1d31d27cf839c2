"""How a service tells its health: /healthz and /readyz for probes, /metrics for Prometheus."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest


def serve(
    port: int, registry: CollectorRegistry, *, healthy: Callable[[], bool], ready: Callable[[], bool]
) -> ThreadingHTTPServer:
    """Answers from a thread of its own, so that a loop that hangs cannot hide it.

    Args:
        port: to listen on; 0 for any that is free.
        registry: what /metrics shows.
        healthy: whether the loop makes progress.
        ready: whether what the service is for has been reached.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            body = b"ok\n"
            match self.path:
                case "/healthz":
                    code = 200 if healthy() else 503
                case "/readyz":
                    code = 200 if ready() else 503
                case "/metrics":
                    code, body = 200, generate_latest(registry)
                case _:
                    code = 404
            self.send_response(code)
            self.end_headers()
            if code == 200:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds; they are not news."""

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@asynccontextmanager
async def serving(
    port: int, registry: CollectorRegistry, *, healthy: Callable[[], bool], ready: Callable[[], bool]
) -> AsyncIterator[None]:
    """Serves for as long as a service's loop runs."""
    server = serve(port, registry, healthy=healthy, ready=ready)
    try:
        yield
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
