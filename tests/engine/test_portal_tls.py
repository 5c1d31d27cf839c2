"""Pushes by TLS: the real pusher, nginx where an Ingress would be, and behind it the real hub."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import unused_port

from local import packages
from local.authority import SERVER, Authority, Leaf, elliptic, pem, write
from local.paths import CHECKOUT
from local.progress import Progress
from services.kube import Json
from services.portal.gate import digest
from services.pusher.main import Pusher
from services.pusher.options import Options
from services.pusher.trust import believing
from tests.services.portal import TOKEN
from tests.services.stand_in import Server, StandInApi

pytestmark = pytest.mark.engine

NGINX = "/usr/sbin/nginx"
CONFIGURATION = """\
user root;
worker_processes 1;
daemon off;
error_log stderr;
pid nginx.pid;
events {{}}
http {{
  access_log access.log;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate chain.pem;
    ssl_certificate_key key.pem;
    location / {{ proxy_pass http://127.0.0.1:{hub}; }}
  }}
}}
"""
NAME = "localhost"
DAY = timedelta(days=1)
SECONDS = 30.0
NOBODYS = (
    "is signed by nobody who is known here: let it come with its whole chain, and name an authority of your own as "
    "portal.certificateAuthority"
)


class Quiet(StandInApi):
    """A site in which nothing happens."""

    async def watch(self, path: str, version: str, *, selector: str = "") -> AsyncGenerator[tuple[str, Json], None]:
        await asyncio.sleep(3600)
        yield "BOOKMARK", {}


@dataclass(kw_only=True)
class Place:
    """The hub with nginx in front of it, an authority of the place's own, and a site's token."""

    directory: Path
    port: int
    pages: int
    nginx: "subprocess.Popen[bytes] | None" = None

    def authority(self, name: str = "own") -> Authority:
        return Authority.ensure(
            name, self.directory / f"{name}-key.pem", self.directory / f"{name}.pem", datetime.now(UTC)
        )

    def shows(self, *, host: str = NAME, signed: timedelta = timedelta(0), by: str = "own") -> None:
        """From now on TLS ends with a certificate for that host, signed then, for a day."""
        leaf = Leaf(name="portal", user="portal", usages=(SERVER,), hosts=(host,), life=DAY, renew_before=DAY)
        key = elliptic()
        certificate = self.authority(by).issue(leaf, key, datetime.now(UTC) + signed)
        write(self.directory / "chain.pem", pem(certificate))
        write(self.directory / "key.pem", pem(key))
        if self.nginx is None:
            self.nginx = subprocess.Popen([NGINX, "-p", self.directory, "-c", self.directory / "nginx.conf"])
            wait(lambda: socket.create_connection((NAME, self.port), timeout=5).close())
        else:
            self.nginx.send_signal(signal.SIGHUP)

    def told(self, authority: str | None) -> Options:
        return Options(
            site="hall", atlas_site="HALL-PROD", hub=f"https://{NAME}:{self.port}",
            trust=believing(pem(self.authority(authority).certificate).decode() if authority else ""),
            token=self.directory / "token", credentials="", accounting="", squids={}, seconds=1, port=0,
        )  # fmt: skip

    def heard(self) -> bool:
        """Whether the hub's page shows the site."""
        page = httpx.get(f"http://{NAME}:{self.pages}/sites/hall", trust_env=False, timeout=10)
        return "HALL-PROD" in page.text

    def passed(self) -> int:
        """How many requests came through the TLS."""
        return len((self.directory / "access.log").read_text().splitlines())


def wait(attempt: Callable[[], Any]) -> None:
    """Until it succeeds."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            attempt()
        except (OSError, httpx.HTTPError):
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    packages.ensure({NGINX: "nginx-light"}, purpose="TLS", log=tmp_path / "apt.log", progress=Progress(total=0))
    push, pages, health, port = (unused_port() for _ in range(4))
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/hall").write_text(digest(TOKEN))
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "nginx.conf").write_text(CONFIGURATION.format(port=port, hub=push))
    told = {"SITES": "hall", "STORE": f"{tmp_path}/portal.db", "TOKENS": f"{tmp_path}/sites", "PORT": str(health)}
    ports = {"PUSH_PORT": str(push), "PAGES_PORT": str(pages)}
    made = Place(directory=tmp_path, port=port, pages=pages)
    hub = subprocess.Popen([sys.executable, "-m", "services.portal"], cwd=CHECKOUT, env={**os.environ, **told, **ports})
    try:
        wait(lambda: httpx.get(f"http://{NAME}:{health}/readyz", trust_env=False, timeout=5).raise_for_status())
        yield made
    finally:
        for process in (hub, made.nginx):
            if process is not None:
                process.terminate()
                process.wait(SECONDS)


Said = list[str]


def pushing(told: Options, until: Callable[[Pusher, Said], bool], capsys: pytest.CaptureFixture[str]) -> Said:
    """Lets the pusher run until that is so; what it said."""
    said: Said = []

    async def run() -> None:
        pusher = Pusher(Quiet(Server()), told)
        task = asyncio.create_task(pusher.run())
        async with asyncio.timeout(SECONDS):
            while not until(pusher, said):
                await asyncio.sleep(0.05)
                lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
                said.extend(line.get("message", line["event"]) for line in lines)
        task.cancel()

    asyncio.run(run())
    return said


def taken(pusher: Pusher, said: Said) -> bool:
    return pusher.metrics.taken is not None


def tried_twice(pusher: Pusher, said: Said) -> bool:
    tries = pusher.metrics.registry.get_sample_value("pusher_pushes_total", {"code": "ClientConnectorCertificateError"})
    return tries is not None and tries >= 2


def test_a_site_pushes_by_tls_to_a_hub_that_an_authority_of_its_own_vouches_for(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.shows()
    assert pushing(place.told("own"), taken, capsys) == []
    assert place.heard()


@pytest.mark.parametrize(
    ("trusted", "shown", "sentence"),
    [
        ("own", {"host": "other.example.org"}, "is another name's: get one for this name, or mend portal.address"),
        ("own", {"signed": -2 * DAY}, "has ended: renew it where the TLS ends"),
        ("own", {"signed": DAY}, "is not valid yet: set the clocks right, here and where it was signed"),
        ("own", {"by": "stranger"}, NOBODYS),
        (None, {}, NOBODYS),
    ],
    ids=["another name", "ended", "not yet", "of another authority", "of none that everybody knows"],
)
def test_a_hub_that_cannot_prove_itself_gets_neither_token_nor_report_and_is_asked_again(
    trusted: str | None, shown: dict[str, Any], sentence: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.shows(**shown)
    said = pushing(place.told(trusted), tried_twice, capsys)
    assert said == [f"https://{NAME}:{place.port}: its certificate {sentence}"]
    assert place.passed() == 0
    assert not place.heard()


def test_a_certificate_that_was_renewed_is_believed_by_a_later_push(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.shows(signed=-2 * DAY)
    renewals: Said = []

    def renewed(pusher: Pusher, said: Said) -> bool:
        if tried_twice(pusher, said) and not renewals:
            place.shows()
            renewals.append("once")
        return "taken" in said

    ended, then = pushing(place.told("own"), renewed, capsys)
    assert ended.endswith("has ended: renew it where the TLS ends")
    assert then == "taken"
    assert place.heard()
