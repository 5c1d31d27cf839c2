"""How a service tells its health, over real HTTP on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from services.health import serve

pytestmark = pytest.mark.fast


@dataclass
class Service:
    """What is asked, and what it shall answer."""

    healthy: bool = True
    ready: bool = True
    url: str = ""

    def status(self, path: str) -> int:
        return httpx.get(f"{self.url}{path}", trust_env=False, timeout=10).status_code


@pytest.fixture
def service() -> Iterator[Service]:
    asked, registry = Service(), CollectorRegistry()
    Gauge("answer", "To everything", registry=registry).set(42)
    server = serve(0, registry, healthy=lambda: asked.healthy, ready=lambda: asked.ready)
    asked.url = f"http://127.0.0.1:{server.server_port}"
    yield asked
    server.shutdown()
    server.server_close()


def test_probes_are_answered_as_the_service_says(service: Service) -> None:
    assert (service.status("/healthz"), service.status("/readyz")) == (200, 200)
    service.ready = False
    assert (service.status("/healthz"), service.status("/readyz")) == (200, 503)
    service.healthy = False
    assert service.status("/healthz") == 503


def test_metrics_are_shown_and_nothing_else(service: Service) -> None:
    assert "answer 42.0" in httpx.get(f"{service.url}/metrics", trust_env=False, timeout=10).text
    assert service.status("/") == 404
    assert service.status("/healthz/") == 404
