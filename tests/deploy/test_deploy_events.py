"""What an event log says of each site."""

import json

import pytest

from deploy.events import NO_SITE, Failure, Pool, read
from tests.deploy.logs import log, text

pytestmark = pytest.mark.fast


def test_each_thing_is_told_once_with_its_site_and_why() -> None:
    told = {(each.kind, each.site, each.name): each.properties for each in log("preview").operations if each.custom}
    assert told == {
        ("replace", "hall", "hall-squid-a"): ("shape",),
        ("update", "cellar", "cellar-squid-a"): ("size",),
        ("delete", "hall-b", "hall-b-squid-a"): (),
        ("delete", "hall-b", "hall-b-squid-c"): (),
        ("delete", "hall-b", "hall-b-b"): (),
    }


def test_a_site_whose_name_begins_like_anothers_keeps_its_own() -> None:
    own = {each.name for each in log("first-preview").operations if each.custom and each.site == "hall"}
    assert own == {"hall-b", "hall-squid-a", "hall-squid-c"}, "among them a thing called hall-b, as another site is"


def test_of_an_update_what_was_done_counts_and_not_what_was_tried() -> None:
    run = log("up-that-fails")
    assert not run.preview
    assert [each.name for each in run.operations if each.custom and each.site == "hall"] == ["hall-b"]
    assert run.failures == [Failure(site="hall", name="hall-squid-a", message="quota of 10 vCPUs exceeded")]


def test_a_program_that_fails_says_of_which_site_and_shows_no_traceback() -> None:
    assert log("program-that-fails").failures == [
        Failure(site="cellar", name=None, message="no kubeconfig."),
        Failure(site=NO_SITE, name=None, message="Pulumi.dev.yaml cannot be used: sites[0].name is missing."),
    ]
    lines = ["error: the program failed", "Traceback (most recent call last):", "  password = 'hush'", "error: so"]
    printed = [json.dumps({"diagnosticEvent": {"severity": "info#err", "message": f"{line}\n"}}) for line in lines]
    assert [failure.message for failure in read(printed).failures] == ["the program failed", "so"]


def test_an_operation_that_failed_without_a_word_is_a_failure() -> None:
    silent = [line for line in text("up-that-fails").splitlines() if "vCPUs" not in line]
    assert [failure.name for failure in read(silent).failures] == ["hall-squid-a"]


def test_what_pools_may_hold_is_known_from_the_outputs_before_and_after() -> None:
    first, change, failed = log("first-preview"), log("preview"), log("program-that-fails")
    ten, twenty = [Pool(most=10, price_per_hour=0.5)], [Pool(most=20, price_per_hour=0.5)]
    assert first.pools_before == {}
    assert first.pools_after == {"cellar": ten, "hall": ten, "hall-b": ten}
    assert change.pools_before == {"cellar": ten, "hall": ten, "hall-b": ten}
    assert change.pools_after == {"cellar": ten, "hall": twenty}
    retired = read(text("preview").replace('"retiring": false', '"retiring": true').splitlines())
    assert retired.pools_after == {"cellar": [], "hall": []}, "a pool that retires makes no new nodes"
    assert failed.pools_after is None, "the program did not come to its outputs"


def test_only_a_run_that_ends_well_and_changes_nothing_is_clean() -> None:
    unchanged = [line for line in text("up-that-mends").splitlines() if '"op": "create"' not in line]
    assert read(unchanged).clean
    assert not read(unchanged[: len(unchanged) // 2]).clean
    assert not log("drift").clean
    assert not log("program-that-fails").clean
    assert not read([]).clean


@pytest.mark.parametrize("length", range(0, 18000, 1300))
def test_a_log_that_was_cut_short_is_read_as_far_as_it_goes(length: int) -> None:
    assert read(text("up-that-fails")[:length].splitlines()).ended is None
