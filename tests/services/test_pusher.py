"""What a site tells the hub: from real /metrics and a stand-in for the API server, by HTTP, to a real hub."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from prometheus_client import generate_latest

from services.accounting.metrics import Metrics as Books
from services.credentials.metrics import Metrics as Proxies
from services.credentials.secret import Terms
from services.kube import Json, error_of
from services.portal.gate import Gate, digest
from services.portal.metrics import Metrics
from services.portal.push import application
from services.portal.report import Cost, Proxy, Squid
from services.portal.store import Heard, Store
from services.pusher import look
from services.pusher.main import Pusher
from services.pusher.options import Options, options
from services.times import timestamp
from services.vacuum.model import REQUESTED_ANNOTATION, SET_LABEL
from tests.services.portal import NOW, TOKEN, startd_set
from tests.services.stand_in import NAMESPACE, Server, StandInApi

pytestmark = pytest.mark.fast

WHOLE = {
    "SITE": "hall",
    "ATLAS_SITE": "HALL-PROD",
    "HUB": "https://portal.example.org/",
    "TOKEN": "/etc/atlas-sites/token/token",
    "CREDENTIALS": "http://credentials:8080/metrics",
    "ACCOUNTING": "",
    "SQUIDS": "squid-0=http://squid-0:9301/metrics,squid-1=http://squid-1:9301/metrics",
    "SECONDS": "30",
}
SQUID = """# TYPE squid_client_http_requests_total counter
squid_client_http_requests_total 200
# TYPE squid_client_http_hits_total counter
squid_client_http_hits_total 150
"""
PROXY = """# TYPE credentials_seconds_to_expiry gauge
credentials_seconds_to_expiry{what="certificate"} 9e6
credentials_seconds_to_expiry{what="proxy"} 7200
# TYPE credentials_threshold_seconds gauge
credentials_threshold_seconds{severity="warning"} 288000
credentials_threshold_seconds{severity="critical"} 259200
"""
BOOKS = """# TYPE accounting_spent gauge
accounting_spent{period="day",currency="EUR"} 1.5
accounting_spent{period="month",currency="EUR"} 20
# TYPE accounting_budget gauge
accounting_budget{period="day",currency="EUR"} 5
# TYPE accounting_over_budget gauge
accounting_over_budget 0
"""


def pod(number: int, phase: str = "Running", **more: Any) -> Json:
    running = {"state": {"running": {"startedAt": timestamp(NOW - 50)}}}
    status: Json = {
        "phase": phase,
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(NOW - 60)}],
        "containerStatuses": [{"name": "startd", **running}],
    }
    return {
        "metadata": {
            "name": f"startds-{number}",
            "namespace": NAMESPACE,
            "labels": {SET_LABEL: "startds"},
            "creationTimestamp": timestamp(NOW - 90),
            **more.pop("metadata", {}),
        },
        "spec": {"nodeName": "node-1", "containers": [{"name": "startd"}], **more.pop("spec", {})},
        "status": {**status, **more},
    }


class Cluster(StandInApi):
    """The API server of a site, with events by field, and what it refuses."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.refused: set[str] = set()

    async def _send(self, verb: str, path: str, **more: Any) -> bytes:
        if any(word in path for word in self.refused):
            raise error_of(403, {"reason": "Forbidden", "message": "no"})
        path, _, fields = path.partition("?fieldSelector=")
        content = await super()._send(verb, path, **more)
        if fields == "type=Warning":
            answer = json.loads(content)
            answer["items"] = [item for item in answer["items"] if item["type"] == "Warning"]
            content = json.dumps(answer).encode()
        return content


class Site:
    """A site with its services, beside a hub."""

    def __init__(self, directory: Path) -> None:
        self.api = Cluster(Server(now=NOW))
        self.directory = directory
        self.metrics = {"credentials": PROXY, "accounting": BOOKS, "squid-0": SQUID}
        self.store = Store(directory / "portal.db")
        self.known: dict[str, Heard] = {}
        (directory / "sites").mkdir()
        (directory / "sites/hall").write_text(digest(TOKEN))
        (directory / "token").write_text(TOKEN + "\n")
        gate = Gate(directory / "sites")
        self.hub = TestServer(application(gate, self.store, self.known, Metrics(["hall"], self.known, lambda: NOW)))
        services = web.Application()
        services.router.add_get("/{name}", self._metrics)
        self.services = TestServer(services)

    async def _metrics(self, request: web.Request) -> web.Response:
        text = self.metrics.get(request.match_info["name"])
        return web.Response(status=404) if text is None else web.Response(text=text)

    def told(self, **more: Any) -> Options:
        def at(name: str) -> str:
            return str(self.services.make_url(f"/{name}"))

        given: dict[str, Any] = {
            "site": "hall",
            "atlas_site": "HALL-PROD",
            "hub": str(self.hub.make_url("")).rstrip("/"),
            "trust": True,
            "token": self.directory / "token",
            "credentials": at("credentials"),
            "accounting": at("accounting"),
            "squids": {"squid-0": at("squid-0"), "squid-1": at("squid-1")},
            "seconds": 30,
            "port": 0,
        }
        return Options(**{**given, **more})

    def put(self, collection: str, body: Json) -> None:
        self.api._server.put(
            f"{collection}/{body['metadata']['name']}", {**body, "metadata": {"uid": "u", **body["metadata"]}}
        )


def pushed(site: Site, *, look_first: bool = True, taken: bool = True, **more: Any) -> tuple[Pusher, Any]:
    """One turn; the pusher, and what the hub heard by it."""

    async def run() -> tuple[Pusher, Any]:
        async with site.hub, site.services, aiohttp.ClientSession() as session:
            pusher = Pusher(site.api, site.told(**more), clock=lambda: NOW)
            if look_first:
                await pusher.look()
            assert await pusher.tell(session) is taken
            return pusher, site.known.get("hall")

    return asyncio.run(run())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    body = startd_set()
    made.put(
        f"/apis/vacuum.atlas-sites.io/v1alpha1/namespaces/{NAMESPACE}/startdsets",
        {
            "metadata": {"name": "startds", "namespace": NAMESPACE},
            "spec": {"limits": body["limits"]},
            "status": body["status"],
        },
    )
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": timestamp(NOW - 20)}]
    made.put(pods, pod(1, conditions=ready))
    made.put(pods, pod(2))
    made.put(pods, pod(3, "Pending", spec={"nodeName": ""}, containerStatuses=[]))
    made.put(pods, pod(4, containerStatuses=[], spec={"nodeName": "node-2"}))
    made.put(pods, pod(5, metadata={"annotations": {REQUESTED_ANNOTATION: "drain"}}))
    made.put(pods, pod(6, "Succeeded"))
    return made


def event(name: str, kind: str, *, at: float, warning: bool) -> Json:
    return {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "Warning" if warning else "Normal",
        "reason": "QuotaFull",
        "message": "m" * 5000,
        "lastTimestamp": timestamp(at),
        "involvedObject": {"kind": kind, "name": "startds"},
        "count": 2,
    }


def test_a_site_tells_all_that_it_sees(site: Site) -> None:
    events = f"/api/v1/namespaces/{NAMESPACE}/events"
    site.put(events, event("a", "StartdSet", at=NOW - 9, warning=False))
    site.put(events, event("b", "StartdSet", at=NOW - 5, warning=True))
    pusher, heard = pushed(site)
    report = heard.report
    assert (report.site, report.atlas_site, report.time) == ("hall", "HALL-PROD", NOW)
    assert report.problems == ()
    (told,) = report.sets
    assert (told.status.state, told.status.limit, told.limits.memory_mib) == ("Steady", 8, 20480)
    assert (told.status.bounds[0].name, told.status.bounds[0].startds) == ("window", 8)
    assert told.status.conditions[0].last_transition_time == "2026-09-21T14:00:00Z"
    assert [(each.name, each.doing, each.node) for each in report.startds] == [
        ("startds-1", "proven", "node-1"),
        ("startds-2", "unproven", "node-1"),
        ("startds-3", "waiting", ""),
        ("startds-4", "starting", "node-2"),
        ("startds-5", "leaving", "node-1"),
        ("startds-6", "ended", "node-1"),
    ]
    assert {each.created for each in report.startds} == {NOW - 90}
    # One that is told twice, as of a set and as a warning, is one; the newest comes first.
    assert [(each.at, each.warning, each.count) for each in report.events] == [(NOW - 5, True, 2), (NOW - 9, False, 2)]
    assert all(len(each.message) == look.SENTENCE for each in report.events)
    assert report.proxy is not None
    assert (report.proxy.ends, report.proxy.warning, report.proxy.critical) == (NOW + 7200, 288_000, 259_200)
    assert report.cost == Cost(currency="EUR", today=1.5, month=20, per_day=5, over=False)
    assert report.squids == (Squid(name="squid-0", requests=200, hits=150), Squid(name="squid-1"))
    assert pusher.metrics.taken == NOW


def test_what_cannot_be_seen_is_left_out_and_named(site: Site) -> None:
    site.metrics = {"squid-0": "not { a metric"}
    site.api.refused = {"/events"}
    _, heard = pushed(site, look_first=False)
    report = heard.report
    assert (report.sets, report.startds, report.events, report.proxy, report.cost) == (None,) * 5
    assert report.squids == (Squid(name="squid-0"), Squid(name="squid-1"))
    said = " ".join(report.problems)
    for what in ("startds cannot be seen", "sets cannot be seen", "events cannot be seen", "credentials", "accounting"):
        assert what in said


def test_a_site_without_books_says_nothing_of_them(site: Site) -> None:
    _, heard = pushed(site, accounting="")
    assert heard.report.cost is None
    assert heard.report.problems == ()


def test_what_the_hub_answers_is_told_once_and_the_loop_goes_on(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.directory / "token").write_text("x" * 43)
    pusher, heard = pushed(site, taken=False)
    assert heard is None
    assert pusher.metrics.taken is None
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["message"] == (
        "the hub answers 401: the token is nobody's: give the site's own as Authorization: Bearer"
    )


@pytest.mark.parametrize("wrong", ["nobody listens", "no token yet"])
def test_a_hub_or_a_token_that_is_not_there_is_one_sentence(
    wrong: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    if wrong == "no token yet":
        (site.directory / "token").unlink()
    more: dict[str, Any] = {"hub": f"http://127.0.0.1:{unused_port()}"} if wrong == "nobody listens" else {}
    pushed(site, taken=False, **more)
    (line,) = capsys.readouterr().out.splitlines()
    said = json.loads(line)["message"]
    assert ("no answer" if more else "the token cannot be used") in said
    assert TOKEN not in said


def test_the_metrics_that_are_read_are_those_that_the_services_have() -> None:
    books = Books(lambda: NOW)
    books.spent = {("day", "EUR"): 1_500_000, ("month", "EUR"): 2_000_000}
    books.limits = {("month", "EUR"): 9_000_000}
    books.over = True
    said = look.samples(generate_latest(books.registry).decode())
    assert look.cost_of(said) == Cost(currency="EUR", today=1.5, month=2, per_month=9, over=True)
    assert look.cost_of({}) is None
    assert look.proxy_of({}, NOW) is None
    now = datetime.fromtimestamp(NOW, UTC)
    hours = timedelta(hours=1)
    proxies = Proxies(lambda: now, Terms())
    proxies.ends = {"proxy": now + 90 * hours}
    proxy = look.proxy_of(look.samples(generate_latest(proxies.registry).decode()), NOW)
    assert proxy == Proxy(ends=NOW + 90 * 3600, warning=80 * 3600, critical=72 * 3600)


def test_the_environment_is_understood() -> None:
    found = options(WHOLE)
    assert found.hub == "https://portal.example.org"
    assert found.accounting == ""
    assert found.squids == {"squid-0": "http://squid-0:9301/metrics", "squid-1": "http://squid-1:9301/metrics"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"SITE": ""},
        {"HUB": "portal"},
        {"TOKEN": "token"},
        {"SQUIDS": "squid"},
        {"SECONDS": "0"},
        {"AUTHORITY": "ca.pem"},
    ],
    ids=str,
)
def test_a_variable_that_cannot_be_used_is_one_sentence(wrong: Mapping[str, str]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name} .*; it must be "):
        options({**WHOLE, **wrong})
