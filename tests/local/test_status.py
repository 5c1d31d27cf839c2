"""The status screen: what is known is shown with its reason, what is not is unknown."""

from typing import Any

import pytest

from local.status import Snapshot, Squid, hit_counters, render

pytestmark = pytest.mark.fast

NOTHING: dict[str, Any] = {
    "site": "dev", "now": 1_800_000_000.0, "startdset": None, "queue": None, "squids": None, "cvmfs": None,
    "proxy_until": None,
}  # fmt: skip


def lines(**known: Any) -> dict[str, str]:
    """The value of each named line of the screen."""
    found = (line.split(None, 1) for line in render(Snapshot(**{**NOTHING, **known})).splitlines()[2:])
    return {words[0]: words[1] for words in found}


def test_what_cannot_be_reached_is_unknown_and_never_zero() -> None:
    assert lines() == dict.fromkeys(("startds", "queue", "squids", "cvmfs", "proxy"), "unknown")


def test_a_site_that_backs_off_says_why_and_until_when() -> None:
    shown = lines(
        startdset={
            "state": "BackingOff",
            "message": "4 startds in a row found no work",
            "startds": {"total": 1, "running": 1, "unproven": 1, "proven": 0},
            "limit": 4,
            "circuit": {"state": "Open", "level": 1, "until": "2027-01-15T08:10:00+00:00"},
            "outcomes": {"NoWork": 4},
        }
    )
    assert shown["state"] == "BackingOff: 4 startds in a row found no work"
    assert shown["startds"] == "1 running, 1 unproven, 0 proven, 1 total of 4"
    assert shown["back-off"] == "until 08:10:00 UTC, 10 min 0 s left"
    assert shown["outcomes"] == "4 NoWork"


def test_a_silent_squid_has_no_hit_ratio() -> None:
    shown = lines(
        squids=[Squid(name="squid-0", ready=True, requests=200, hits=150), Squid(name="squid-1", ready=False)]
    )
    assert shown["squids"] == "1 of 2 ready"
    assert shown["squid-0"] == "hit ratio 75%, 200 requests"
    assert shown["squid-1"] == "hit ratio unknown"


@pytest.mark.parametrize(("seconds", "text"), [(7260, "2 h 1 min left"), (61, "1 min 1 s left"), (0, "over")])
def test_the_proxy_s_time_is_shown(seconds: float, text: str) -> None:
    assert lines(proxy_until=NOTHING["now"] + seconds)["proxy"] == text


def test_an_empty_queue_is_zero_and_not_unknown() -> None:
    assert lines(queue={"idle": 0, "running": 0, "held": 0})["queue"] == "0 idle, 0 running, 0 held"


def test_squid_s_counters_are_read_from_its_manager_page() -> None:
    page = "HTTP/1.1 200 OK\r\n\r\nsample_time = 1.0 (x)\nclient_http.requests = 12\nclient_http.hits = 7\n"
    assert hit_counters(page) == (12, 7)
    assert hit_counters("HTTP/1.1 403 Forbidden") is None
