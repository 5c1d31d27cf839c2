"""The whole refresher on a stand-in for the API server: what it writes, what it says, and what it lives through."""

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from prometheus_client import generate_latest

from services.credentials import proxy
from services.credentials.main import Refresher, options, pause_after
from services.credentials.secret import EXPIRES, RENEWED, Terms
from services.kube import error_of
from tests.services.certificates import DAY, HOUR, NOW, Wish, authority, certificate, key_pem, token
from tests.services.stand_in import NAMESPACE, Crash, Server, StandInApi

pytestmark = pytest.mark.fast

SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/proxy"
CERTIFICATE = "/api/v1/namespaces/default/secrets/atlas-cert"
TOKEN = "/api/v1/namespaces/pool/secrets/startd-token"
AUTHORITY = "/api/v1/namespaces/pool/configmaps/pool-ca"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"

WHOLE = {
    "NAMESPACE": NAMESPACE,
    "HOST_CERTIFICATE": "default/atlas-cert",
    "TOKEN": "pool/startd-token",
    "AUTHORITY": "pool/pool-ca",
}


class Cluster(StandInApi):
    """The API server with the objects of a site that is just being made, and what is wrong with it.

    Attributes:
        refusals: HTTP status that calls for a path are answered with.
    """

    def __init__(self, server: Server, cut: Callable[[int, str], None] = lambda _number, _when: None) -> None:
        super().__init__(server, cut)
        self.refusals: dict[str, int] = {}

    async def _send(self, verb: str, path: str, **more: Any) -> bytes:
        if path in self.refusals:
            raise error_of(self.refusals[path], {"reason": "Refused", "message": "no"})
        return await super()._send(verb, path, **more)


@dataclass
class Place:
    """A cluster, its refresher, and a clock that only the test moves."""

    server: Server = field(default_factory=lambda: Server(now=NOW.timestamp()))

    def __post_init__(self) -> None:
        self.make(SECRET, {})
        self.make(CERTIFICATE, {"hostcert": certificate(), "hostkey": key_pem()})
        self.make(TOKEN, {"token": token()})
        self.make(AUTHORITY, {"ca.pem": authority()})
        self.api = Cluster(self.server)
        self.restart()

    def make(self, path: str, data: Mapping[str, bytes]) -> None:
        """An object in place of whatever was there."""
        self.server.objects.pop(path, None)
        collection, _, name = path.rpartition("/")
        secret = collection.endswith("/secrets")
        encoded = {key: base64.b64encode(value).decode() if secret else value.decode() for key, value in data.items()}
        self.server.create(
            collection,
            {
                "apiVersion": "v1",
                "kind": "Secret" if secret else "ConfigMap",
                "metadata": {"name": name, "namespace": path.split("/")[4]},
                "data": encoded,
            },
        )

    def restart(self, environment: Mapping[str, str] = WHOLE) -> None:
        self.refresher = Refresher(self.api, options(environment), self.clock)

    def clock(self) -> datetime:
        return datetime.fromtimestamp(self.server.now, UTC)

    def turn(self, after: timedelta = timedelta(0)) -> float:
        self.server.now += after.total_seconds()
        return asyncio.run(self.refresher.turn())

    @property
    def writes(self) -> int:
        return self.server.calls.count(("PATCH", SECRET))

    @property
    def data(self) -> dict[str, bytes]:
        found = self.server.objects[SECRET].get("data", {})
        return {key: base64.b64decode(value) for key, value in found.items()}

    @property
    def annotations(self) -> dict[str, str]:
        return dict(self.server.objects[SECRET]["metadata"].get("annotations", {}))

    def events(self, kind: str = "Warning") -> list[tuple[str, str]]:
        found = self.server.every(EVENTS)
        return [(event["reason"], event["message"]) for event in found if event["type"] == kind]

    def metric(self, name: str) -> float | None:
        text = generate_latest(self.refresher.metrics.registry).decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else None


@pytest.fixture
def place(capsys: pytest.CaptureFixture[str]) -> Place:
    """Whose log is taken from the test's output."""
    return Place()


def test_a_new_site_has_its_credentials_after_one_turn(place: Place) -> None:
    assert not place.refresher.ready
    assert place.turn() == 60
    assert place.refresher.ready
    assert place.writes == 1
    assert set(place.data) == {"proxy", "token", "ca.pem"}
    assert proxy.read(place.data["proxy"], place.clock()).expires == NOW + 96 * HOUR
    assert (place.data["token"], place.data["ca.pem"]) == (token(), authority())
    assert place.annotations[EXPIRES] == "2030-01-05T12:00:00Z"
    assert place.events("Normal") == [("Renewed", "proxy: a new one, good to 2030-01-05 12:00 UTC")]
    assert place.events() == []
    assert place.metric('credentials_seconds_to_expiry{what="proxy"}') == 96 * 3600
    assert place.metric('credentials_seconds_to_expiry{what="certificate"}') == 30 * 86400
    assert place.metric('credentials_seconds_to_expiry{what="token"}') == 7 * 86400
    assert place.metric("credentials_last_success_timestamp_seconds") == NOW.timestamp()
    assert place.metric('credentials_refreshes_total{result="renewed"}') == 1


def test_a_secret_that_is_not_there_is_made_and_filled_and_made_again_when_it_is_deleted(place: Place) -> None:
    for _ in range(2):
        del place.server.objects[SECRET]
        place.turn(timedelta(minutes=1))
        assert set(place.data) == {"proxy", "token", "ca.pem"}
        assert place.refresher.ready
    made = [verb for verb, path in place.server.calls if path == SECRET]
    assert made == ["APPLY", "PATCH"] * 2


@pytest.mark.parametrize(
    ("age", "reason", "message"),
    [
        (15, None, None),
        (17, "ProxyEndsSoon", "proxy: it ends at 2030-01-05 12:00 UTC, in less than 80 hours; put right"),
        (25, "ProxyBelowFloor", "proxy: it ends at 2030-01-05 12:00 UTC, and pilots refuse to start with less than 72"),
    ],
)
def test_a_proxy_that_gets_old_is_told_at_80_and_at_72_hours(
    place: Place, age: int, reason: str | None, message: str | None
) -> None:
    place.turn()
    place.make(CERTIFICATE, {})
    place.turn(age * HOUR)
    told = {reason: message for reason, message in place.events() if reason != "CertificateMissing"}
    assert set(told) == ({reason} if reason else set())
    assert all(sentence.startswith(message or "") for sentence in told.values())
    assert place.metric('credentials_seconds_to_expiry{what="proxy"}') == (96 - age) * 3600
    assert place.metric('credentials_threshold_seconds{severity="warning"}') == 80 * 3600
    assert place.metric('credentials_threshold_seconds{severity="critical"}') == 72 * 3600


def test_a_day_costs_one_write_each_six_hours_or_a_little_less(place: Place) -> None:
    for _ in range(24 * 12):
        place.turn(timedelta(minutes=5))
    assert 4 <= place.writes <= 5
    assert place.events() == []
    assert proxy.read(place.data["proxy"], place.clock()).expires > place.clock() + 90 * HOUR


@pytest.mark.parametrize(("after", "writes"), [(HOUR, 1), (3 * HOUR - timedelta(minutes=1), 1), (3 * HOUR, 2)])
def test_a_restart_writes_only_when_half_of_the_time_is_over(place: Place, after: timedelta, writes: int) -> None:
    place.turn()
    place.restart()
    place.turn(after)
    place.turn(timedelta(minutes=1))
    assert place.writes == writes
    assert place.refresher.ready


@pytest.mark.parametrize(
    ("path", "data", "changed"),
    [
        (CERTIFICATE, {"hostcert": certificate(Wish(ends=NOW + 60 * DAY)), "hostkey": key_pem()}, "proxy"),
        (TOKEN, {"token": token(NOW + 8 * DAY)}, "token"),
        (AUTHORITY, {"ca.pem": authority() + authority()}, "ca.pem"),
        (SECRET, {}, "proxy"),
    ],
)
def test_a_change_is_noticed_at_the_next_look(place: Place, path: str, data: dict[str, bytes], changed: str) -> None:
    place.turn()
    before = place.data
    place.make(path, data)
    assert place.turn(timedelta(minutes=1)) == 60
    assert {key for key in before if place.data[key] != before[key]} == {changed}
    place.turn(timedelta(minutes=1))
    assert place.writes == 2


# What goes wrong while a good proxy is there: with what path, what then lies there, the reason and the beginning told.
FAULTS: dict[str, tuple[str, dict[str, bytes] | int, str, str]] = {
    "certificate gone": (
        CERTIFICATE,
        404,
        "CertificateMissing",
        (
            "Secret default/atlas-cert: it is missing; make it with `kubectl create secret generic atlas-cert "
            "--namespace default --from-file=hostcert=… --from-file=hostkey=…`"
        ),
    ),
    "certificate not to be read": (
        CERTIFICATE,
        403,
        "CertificateDenied",
        "Secret default/atlas-cert: the refresher may not read it; `pulumi up` gives it the right",
    ),
    "key gone": (
        CERTIFICATE,
        {"hostcert": certificate()},
        "CertificateMissing",
        "Secret default/atlas-cert: the key hostkey is missing; make it with `kubectl create secret generic",
    ),
    "certificate expired": (
        CERTIFICATE,
        {"hostcert": certificate(Wish(ends=NOW)), "hostkey": key_pem()},
        "CertificateExpired",
        "Secret default/atlas-cert: hostcert: it ended at 2030-01-01 12:00 UTC",
    ),
    "another's key": (
        CERTIFICATE,
        {"hostcert": certificate(), "hostkey": key_pem("RSA other")},
        "KeyMismatch",
        "Secret default/atlas-cert: hostkey: it is not the key",
    ),
    "token gone": (
        TOKEN,
        404,
        "TokenMissing",
        (
            "Secret pool/startd-token: it is missing; make it with `kubectl create secret generic startd-token "
            "--namespace pool --from-file=token=…`"
        ),
    ),
    "token expired": (TOKEN, {"token": token(NOW)}, "TokenExpired", "Secret pool/startd-token: token: it ended at"),
    "authority gone": (
        AUTHORITY,
        404,
        "AuthorityMissing",
        (
            "ConfigMap pool/pool-ca: it is missing; make it with `kubectl create configmap pool-ca "
            "--namespace pool --from-file=ca.pem=…`"
        ),
    ),
    "authority broken": (AUTHORITY, {"ca.pem": b"?"}, "AuthorityUnreadable", "ConfigMap pool/pool-ca: ca.pem: a cert"),
}


def spoil(place: Place, fault: str) -> None:
    path, what, _, _ = FAULTS[fault]
    if isinstance(what, int):
        place.api.refusals[path] = what
    else:
        place.make(path, what)


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_is_told_once_and_takes_nothing_away(
    place: Place, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.turn()
    before = place.data
    spoil(place, fault)
    for _ in range(30):
        place.turn(timedelta(minutes=1))
    reason, beginning = FAULTS[fault][2:]
    assert place.data == before
    assert place.refresher.ready
    ((told, message),) = place.events()
    assert told == reason
    assert message.startswith(beginning)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["message"] for line in lines if line["event"] == "problem"] == [message]
    assert place.metric(f'credentials_problem{{reason="{reason}"}}') == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_at_the_start_all_that_is_good_is_delivered(place: Place, fault: str) -> None:
    spoil(place, fault)
    place.turn()
    missing = {CERTIFICATE: "proxy", TOKEN: "token", AUTHORITY: "ca.pem"}[FAULTS[fault][0]]
    assert set(place.data) == {"proxy", "token", "ca.pem"} - {missing}
    assert place.refresher.ready is (missing != "proxy")
    assert [reason for reason, _ in place.events()] == [FAULTS[fault][2]]


def test_what_is_put_right_is_used_and_no_longer_told(place: Place) -> None:
    place.make(CERTIFICATE, {})
    assert 1 <= place.turn() <= 2
    assert place.metric('credentials_refreshes_total{result="failed"}') == 1
    place.make(CERTIFICATE, {"hostcert": certificate(), "hostkey": key_pem()})
    assert place.turn(timedelta(minutes=1)) == 60
    assert place.refresher.ready
    assert place.metric('credentials_problem{reason="CertificateMissing"}') is None


def test_a_trouble_that_lasts_is_told_again_each_hour(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.api.refusals[TOKEN] = 404
    for _ in range(150):
        place.turn(timedelta(minutes=1))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len([line for line in lines if line["event"] == "problem"]) == 3
    # The name of an Event follows from what it says, so the API server has one until it forgets it.
    assert len(place.events()) == 1


def test_a_proxy_that_nobody_renews_is_good_to_its_end_and_not_beyond(place: Place) -> None:
    place.turn()
    place.make(CERTIFICATE, {})
    readiness = []
    for _ in range(100):
        place.turn(HOUR)
        readiness.append(place.refresher.ready)
    assert readiness == [True] * 95 + [False] * 5
    assert {reason for reason, _ in place.events()} == {"CertificateMissing", "ProxyEndsSoon", "ProxyBelowFloor"}
    assert "proxy" in place.data


@pytest.mark.parametrize(("status", "reason"), [(404, "SecretMissing"), (403, "SecretDenied"), (503, "ApiFailed")])
def test_a_secret_that_is_out_of_reach_is_told_and_tried_again(
    place: Place, status: int, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.turn()
    place.api.refusals[SECRET] = status
    pauses = [place.turn(timedelta(minutes=1)) for _ in range(8)]
    assert pauses[0] <= 2 < max(pauses) <= 60
    assert place.metric(f'credentials_problem{{reason="{reason}"}}') == 1
    assert reason in capsys.readouterr().out
    # What was good when it was last seen still is, unless it is gone.
    assert place.refresher.ready is (status != 404)
    place.api.refusals.clear()
    assert place.turn() == 60
    assert place.refresher.ready


def test_of_two_refreshers_one_writes_and_the_other_sees_it(place: Place) -> None:
    server = place.server
    first, second = place.refresher, Refresher(place.api, options(WHOLE), place.clock)

    async def together() -> None:
        await asyncio.gather(first.turn(), second.turn())
        await asyncio.gather(first.turn(), second.turn())

    # Both read before either writes.
    both, seen = asyncio.Event(), 0
    call = place.api._send

    async def slow(verb: str, path: str, **more: Any) -> bytes:
        nonlocal seen
        if verb == "PATCH" and not both.is_set():
            seen += 1
            if seen == 2:
                both.set()
            await both.wait()
        return await call(verb, path, **more)

    place.api._send = slow  # type: ignore[method-assign]
    asyncio.run(together())
    assert server.objects[SECRET]["metadata"]["annotations"][RENEWED] == "2030-01-01T12:00:00Z"
    written = [proxy.read(place.data["proxy"], place.clock())]
    assert len(written) == 1
    results = [
        refresher.metrics.refreshes.labels(result)._value.get()
        for refresher in (first, second)
        for result in ("renewed", "conflict", "failed")
    ]
    assert sorted([results[:3], results[3:]]) == [[0, 1, 0], [1, 0, 0]]
    assert first.ready
    assert second.ready


@hypothesis_settings(deadline=None, max_examples=12)
@given(
    kills=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["before", "after"])), max_size=6),
    ages=st.lists(st.integers(0, 30), min_size=6, max_size=6),
)
def test_wherever_it_is_killed_the_secret_holds_all_or_nothing(kills: list[tuple[int, str]], ages: list[int]) -> None:
    place = Place()
    for (number, when), age in zip(kills, ages, strict=False):

        def cut(write: int, moment: str, number: int = number, when: str = when) -> None:
            if (write, moment) == (number, when):
                raise Crash

        place.api = Cluster(place.server, cut)
        place.restart()
        with contextlib.suppress(Crash):
            place.turn(age * HOUR)
        assert set(place.data) in (set(), {"proxy", "token", "ca.pem"})
        if place.data:
            proxy.read(place.data["proxy"], place.clock())


def test_options_come_from_the_environment() -> None:
    least = options({"NAMESPACE": "site", "HOST_CERTIFICATE": "default/atlas-cert"})
    assert (least.token, least.authority, least.port) == (None, None, 8080)
    assert least.terms == Terms(life=96 * HOUR, period=6 * HOUR, alarm=80 * HOUR, critical=72 * HOUR)
    assert least.voms is None
    assert (least.secret.path, least.host.path) == ("/api/v1/namespaces/site/secrets/proxy", CERTIFICATE)
    voms = {"VOMS": "atlas:/atlas/Role=production,/atlas", "VOMS_TRUST": "default/voms"}
    own = {"SECRET": "mine", "PROXY_HOURS": "100", "REFRESH_HOURS": "3", "ALARM_HOURS": "90", "CRITICAL_HOURS": "80"}
    whole = options({**WHOLE, **own, **voms, "PORT": "9"})
    assert (str(whole.token), str(whole.authority)) == ("Secret pool/startd-token", "ConfigMap pool/pool-ca")
    assert whole.terms == Terms(life=100 * HOUR, period=3 * HOUR, alarm=90 * HOUR, critical=80 * HOUR)
    assert (str(whole.voms), whole.organisation) == ("ConfigMap default/voms", "atlas")
    assert whole.attributes == ("/atlas/Role=production", "/atlas")
    assert (whole.port, whole.secret.name) == (9, "mine")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"NAMESPACE": ""}, "NAMESPACE is not set"),
        ({"HOST_CERTIFICATE": ""}, "HOST_CERTIFICATE is not set"),
        ({"HOST_CERTIFICATE": "atlas-cert"}, "HOST_CERTIFICATE is 'atlas-cert'; it must be a namespace and a name"),
        ({"TOKEN": "a/b/c"}, "TOKEN is 'a/b/c'; it must be"),
        ({"PROXY_HOURS": "4 days"}, "PROXY_HOURS is '4 days'; it must be a positive whole number"),
        ({"REFRESH_HOURS": "0"}, "REFRESH_HOURS is '0'"),
        ({"VOMS": "atlas:/atlas"}, "VOMS (as in atlas:/atlas/Role=production) and VOMS_TRUST are set together"),
        ({"VOMS_TRUST": "default/voms"}, "VOMS (as in atlas:/atlas/Role=production) and VOMS_TRUST are set together"),
    ],
)
def test_an_environment_that_makes_no_sense_is_told(change: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        options({**WHOLE, **change})


@given(st.integers(min_value=1, max_value=10**6), st.floats(min_value=0, max_value=1))
def test_after_failures_it_comes_back_sooner_than_in_a_minute_and_never_at_once(failures: int, chance: float) -> None:
    pause = pause_after(failures, chance)
    assert 1 <= pause <= 60
    assert pause <= 2.0 ** min(failures, 20)
