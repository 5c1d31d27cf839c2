"""`python -m deploy` with the real engine: one site alone, one that fails beside others, and what is told of them."""

import json
from pathlib import Path

import pytest

from tests.engine.federation import UP, Federation, found
from tests.engine.projects import Project

pytestmark = pytest.mark.engine

# One name begins like another, and a thing of the first site has the name of the second.
SITES = ("hall", "hall-squid", "attic")


@pytest.fixture
def federation(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Federation:
    return found(project, tmp_path, monkeypatch)


def test_one_site_that_fails_does_not_stop_the_others_and_is_told_by_name(federation: Federation) -> None:
    federation.declare(*SITES)
    failing = federation.place / "hall-squid-0.fail"
    failing.touch()
    status, output = federation.deploy(*UP)
    assert status != 0
    assert federation.made() == {"hall-squid", "attic"}
    table = {line.split()[0]: line for line in output[output.index("\nSITE") :].splitlines() if line}
    assert table["hall"].endswith("failed: hall-squid-0: quota of 10 vCPUs exceeded")
    assert table["attic"].endswith("ready")
    failing.unlink()
    status, output = federation.deploy(*UP)
    assert status == 0, output
    assert federation.made() == set(SITES)


def test_one_site_can_be_made_changed_and_taken_down_alone(federation: Federation) -> None:
    federation.declare(*SITES)
    assert federation.deploy(*UP, "--site", "hall")[0] == 0
    assert federation.made() == {"hall"}
    assert federation.deploy(*UP)[0] == 0
    assert federation.deploy("destroy", "--stack", "dev", "--yes", "--site", "hall")[0] == 0
    assert federation.made() == {"hall-squid", "attic"}
    # One that is no longer declared goes, when it is meant, and no other.
    federation.declare("hall")
    assert federation.deploy(*UP, "--site", "attic")[0] == 0
    assert federation.made() == {"hall-squid"}


def test_a_site_that_does_not_exist_is_an_error_and_changes_nothing(federation: Federation) -> None:
    federation.declare(*SITES)
    status, output = federation.deploy(*UP, "--site", "moat")
    assert status == 1
    assert "error: stack dev has no site moat; its sites: attic, hall, hall-squid" in output
    assert federation.made() == set()


def test_a_preview_tells_reviewers_what_policies_say_and_what_it_costs(federation: Federation, tmp_path: Path) -> None:
    federation.declare("hall", "cellar")
    summary = tmp_path / "summary.json"
    status, _ = federation.deploy("preview", "--stack", "dev", "--summary", str(summary))
    assert status != 0
    text = json.loads(summary.read_text())["text"]
    assert "- `no-cellar`, cellar `cellar-squid-0`: It is damp." in text
    assert "| hall | 1 |  |  |  | 3,650 | +3,650 |" in text
    assert "hush" not in text


def test_what_is_as_the_stack_says_is_clean(federation: Federation, tmp_path: Path) -> None:
    federation.declare(*SITES)
    difference = tmp_path / "drift.json"
    look = ("preview", "--stack", "dev", "--drift", str(difference))
    assert federation.deploy(*look)[0] == 0
    assert not json.loads(difference.read_text())["clean"]
    assert federation.deploy(*UP)[0] == 0
    assert federation.deploy(*look)[0] == 0
    assert json.loads(difference.read_text())["clean"]
