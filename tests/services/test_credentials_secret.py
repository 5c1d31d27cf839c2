"""What is changed in the Secret: each part only for a good one, all in one patch, and nothing without need."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings, strategies as st

from services.credentials import proxy
from services.credentials.inputs import Host, Problem, Token, read_host, read_token
from services.credentials.secret import (
    AUTHORITY,
    EXPIRES,
    FINGERPRINT,
    PROXY,
    RENEWED,
    TOKEN,
    Held,
    Plan,
    Sources,
    Terms,
    decide,
    fingerprint,
    held_of,
    patience,
)
from services.kube import Json
from services.times import timestamp
from tests.services.certificates import DAY, HOUR, NOW, Wish, certificate, key_pem, token

pytestmark = pytest.mark.fast

LIFE, PERIOD = 96 * HOUR, 6 * HOUR
HOST = read_host(certificate(), key_pem(), NOW)
MADE = proxy.make(HOST, LIFE, NOW)
PROBLEM = Problem(reason="Wrong", sentence="it is wrong")


def sources(
    host: Host | Problem = HOST, token: Token | Problem | None = None, authority: bytes | Problem | None = None
) -> Sources:
    return Sources(host=host, token=token, authority=authority)


def held(data: Mapping[str, bytes] | None = None, annotations: Mapping[str, str] | None = None) -> Held:
    """As read; without data as Pulumi makes it, which is empty."""
    return held_of(
        {
            "metadata": {"uid": "uid", "resourceVersion": "7", "annotations": dict(annotations or {})},
            "data": {key: base64.b64encode(value).decode() for key, value in (data or {}).items()},
        }
    )


def filled(data: Mapping[str, bytes] | None = None, expires: datetime = NOW + LIFE) -> Held:
    """As the refresher left it now."""
    annotations = {
        EXPIRES: timestamp(expires.timestamp()),
        RENEWED: timestamp(NOW.timestamp()),
        FINGERPRINT: fingerprint(HOST),
    }
    return held({PROXY: MADE, **(data or {})}, annotations)


def plan(before: Held, given: Sources | None = None, now: datetime = NOW, most: timedelta = PERIOD) -> Plan:
    return decide(before, given or sources(), now, terms=Terms(life=LIFE, period=PERIOD), most=most)


def written(found: Plan) -> dict[str, bytes | None]:
    """The data of a plan's patch, decoded."""
    data: Json = found.patch["data"] if found.patch else {}
    return {key: None if value is None else base64.b64decode(value) for key, value in data.items()}


def test_an_empty_secret_is_filled_in_one_patch_for_the_version_that_was_read() -> None:
    pool_token = read_token(token(NOW + 2 * DAY), NOW)
    found = plan(held(), sources(token=pool_token, authority=b"authority"))
    assert found.patch is not None
    assert found.patch["metadata"] == {
        "uid": "uid",
        "resourceVersion": "7",
        "annotations": {
            EXPIRES: "2030-01-03T12:00:00Z",  # the token is the first to end
            RENEWED: "2030-01-01T12:00:00Z",
            FINGERPRINT: fingerprint(HOST),
        },
    }
    data = written(found)
    assert (data[TOKEN], data[AUTHORITY]) == (pool_token.text, b"authority")
    assert proxy.read(data[PROXY] or b"", NOW) == found.proxy
    assert (found.renewed, found.failed, found.problems) == (True, False, ())
    assert found.ends == {"proxy": NOW + LIFE, "certificate": NOW + 30 * DAY, "token": NOW + 2 * DAY}


def test_a_secret_that_is_as_it_should_be_is_left_alone() -> None:
    found = plan(
        filled({TOKEN: token(None), AUTHORITY: b"a"}), sources(token=read_token(token(None), NOW), authority=b"a")
    )
    assert (found.patch, found.renewed, found.failed) == (None, False, False)
    assert found.proxy is not None


@pytest.mark.parametrize(
    ("before", "after", "due"),
    [
        (filled(), timedelta(0), False),
        (filled(), PERIOD - timedelta(seconds=1), False),
        (filled(), PERIOD, True),
        (filled(), -HOUR, True),  # made in the future: our clock or that of who made it was wrong
        (replace(filled(), renewed=None), timedelta(0), True),
        (replace(filled(), data={}), timedelta(0), True),
        (replace(filled(), data={PROXY: MADE[:-100]}), timedelta(0), True),
        (replace(filled(), renewed=NOW + LIFE - HOUR), LIFE - HOUR / 30, True),  # young by its word, but at its end
        (replace(filled(), annotations={FINGERPRINT: "00:11"}), timedelta(0), True),
    ],
)
def test_a_proxy_is_replaced_when_it_is_old_broken_or_from_another_certificate(
    before: Held,
    after: timedelta,
    due: bool,  # noqa: FBT001  one of a table
) -> None:
    found = plan(before, now=NOW + after)
    assert found.renewed is due
    assert (PROXY in written(found)) is due


@settings(deadline=None, max_examples=30)
@given(
    age=st.integers(min_value=0, max_value=200),
    wrong=st.sets(st.sampled_from(["host", "token", "authority"])),
    empty=st.booleans(),
)
def test_a_part_that_cannot_be_replaced_stays(age: int, wrong: set[str], empty: bool) -> None:  # noqa: FBT001  drawn
    given_now = Sources(
        host=PROBLEM if "host" in wrong else HOST,
        token=PROBLEM if "token" in wrong else read_token(token(), NOW),
        authority=PROBLEM if "authority" in wrong else b"new",
    )
    before = held() if empty else filled({TOKEN: token(NOW + DAY), AUTHORITY: b"old"})
    found = plan(before, given_now, NOW + age * HOUR)
    data = written(found)
    assert found.problems[: len(wrong)] == (PROBLEM,) * len(wrong)
    assert None not in data.values()
    assert ("host" in wrong) <= (PROXY not in data)
    assert (TOKEN in data) == ("token" not in wrong)
    assert (AUTHORITY in data) == ("authority" not in wrong)
    assert not (found.renewed and found.failed)
    if "host" not in wrong and (empty or age >= 6):
        assert found.renewed
    if "host" in wrong:
        assert found.failed is (empty or age >= 6)
        assert (found.proxy is not None) is (not empty and age < 96)


def test_what_is_no_longer_wanted_is_taken_out() -> None:
    found = plan(filled({TOKEN: token(), AUTHORITY: b"old"}))
    assert written(found) == {TOKEN: None, AUTHORITY: None}
    assert not found.renewed


def test_a_new_token_leaves_the_proxy_alone_and_moves_the_end() -> None:
    found = plan(filled(), sources(token=read_token(token(NOW + HOUR), NOW)))
    assert written(found) == {TOKEN: token(NOW + HOUR)}
    assert found.patch is not None
    assert found.patch["metadata"]["annotations"] == {EXPIRES: "2030-01-01T13:00:00Z"}


def test_a_token_that_is_kept_still_counts_for_the_end() -> None:
    found = plan(filled({TOKEN: token(NOW + HOUR)}, expires=NOW + HOUR), sources(token=PROBLEM))
    assert (found.patch, found.ends["token"]) == (None, NOW + HOUR)


def reasons(found: Plan) -> list[str]:
    return [problem.reason for problem in found.problems]


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (97 * HOUR, []),
        (90 * HOUR, ["CertificateEndsSoon"]),
        (80 * HOUR, ["CertificateEndsSoon"]),
        (72 * HOUR, ["CertificateEndsSoon", "ProxyEndsSoon"]),
        (71 * HOUR, ["CertificateEndsSoon", "ProxyBelowFloor"]),
        (1 * HOUR, ["CertificateEndsSoon", "ProxyBelowFloor"]),
    ],
)
def test_a_host_certificate_near_its_end_is_told_but_used(left: timedelta, expected: list[str]) -> None:
    ending = read_host(certificate(Wish(ends=NOW + left)), key_pem(), NOW)
    found = plan(held(), sources(host=ending))
    assert found.renewed
    assert found.ends["proxy"] == NOW + min(left, LIFE)
    assert reasons(found) == expected


def test_a_proxy_that_is_not_renewed_is_told_when_pilots_begin_to_refuse_it() -> None:
    told = {age: reasons(plan(filled(), sources(host=PROBLEM), NOW + age * HOUR)) for age in (15, 17, 23, 25)}
    soon = ["Wrong", "ProxyEndsSoon"]
    assert told == {15: ["Wrong"], 17: soon, 23: soon, 25: ["Wrong", "ProxyBelowFloor"]}


@given(st.text(max_size=20), st.datetimes(min_value=datetime(2000, 1, 1)))  # noqa: DTZ001  times and uids by the dozen
def test_patience_is_a_period_or_a_little_less_and_half_of_it_after_a_start(uid: str, renewed: datetime) -> None:
    before = replace(held(), uid=uid, renewed=renewed)
    assert PERIOD * 0.9 <= patience(before, PERIOD, starting=False) <= PERIOD
    assert patience(before, PERIOD, starting=True) == PERIOD / 2


def test_refreshers_that_were_started_together_do_not_stay_together() -> None:
    ages = {patience(replace(held(), uid=str(number)), PERIOD, starting=False) for number in range(50)}
    assert len(ages) == 50


@pytest.mark.parametrize("renewed", ["", "yesterday", "2030-01-01", "2030-13-01T00:00:00Z"])
def test_a_time_that_somebody_wrote_there_does_not_stop_it(renewed: str) -> None:
    assert plan(held({PROXY: MADE}, {RENEWED: renewed, FINGERPRINT: fingerprint(HOST)})).proxy is not None
