"""The command line: what the engine is told, and with what exit code it all ends."""

import json
from pathlib import Path

import pytest

from components.naming import is_site_name
from deploy import __main__ as command_line, engine, github
from deploy.engine import Request
from deploy.events import Run
from tests.deploy.logs import log

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(command="preview", stack="world"), "preview --stack world --policy-pack policies"),
        (
            Request(command="preview", stack="world", refresh=True),
            "preview --stack world --policy-pack policies --refresh --expect-no-changes",
        ),
        (Request(command="up", stack="world"), "up --stack world --policy-pack policies --continue-on-error"),
        (
            Request(command="up", stack="world", site="hall", yes=True),
            (
                "up --stack world --policy-pack policies --continue-on-error --yes --skip-preview --non-interactive "
                "--target **atlas-sites:index:Site::hall --target-dependents"
            ),
        ),
        (
            Request(command="destroy", stack="world", site="hall"),
            "destroy --stack world --continue-on-error --target **atlas-sites:index:Site::hall --target-dependents",
        ),
    ],
)
def test_the_engine_is_told_what_is_meant(request_: Request, words: str) -> None:
    assert " ".join(request_.words()) == f"pulumi {words}"


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Run]]:
    """How the engine ends, in place of the engine."""
    outcomes: list[tuple[int, Run]] = []
    monkeypatch.setattr(engine, "run", lambda _: outcomes.pop(0))
    return outcomes


@pytest.mark.parametrize(
    ("name", "status", "words", "code"),
    [
        ("up-that-mends", 0, "up --stack world", 0),
        ("up-that-fails", 1, "up --stack world --yes", 1),
        ("up-that-mends", 0, "up --stack world --site hall", 0),
        ("up-that-mends", 0, "up --stack world --site attic", 1),
        ("preview", 1, "preview --stack world", 1),
        ("drift", 7, "preview --stack world --drift {}/drift.json", 0),
        ("program-that-fails", 1, "preview --stack world --drift {}/drift.json", 1),
    ],
)
def test_the_exit_code_says_whether_all_that_was_asked_for_is_done(
    name: str, status: int, words: str, code: int, ended: list[tuple[int, Run]], tmp_path: Path
) -> None:
    ended.append((status, log(name)))
    assert command_line.main(words.format(tmp_path).split()) == code


def test_a_site_that_is_not_in_the_stack_is_told_with_those_that_are(
    ended: list[tuple[int, Run]], capsys: pytest.CaptureFixture[str]
) -> None:
    ended.append((0, log("up-that-mends")))
    command_line.main(["up", "--stack", "world", "--site", "attic"])
    said = capsys.readouterr().err
    assert said == "error: stack world has no site attic; its sites: cellar, hall, hall-b\n"


@pytest.mark.parametrize("site", ["*", "hall**", "a::b", "-x", "Hall", "a$b"])
def test_what_is_no_name_cannot_become_a_pattern_for_other_sites(site: str) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["up", "--stack", "world", f"--site={site}"])


def test_whatever_a_site_may_be_called_can_be_named() -> None:
    for name in ("a", "hall-b", "x1-2"):
        assert is_site_name(name)
        assert command_line.SITE.fullmatch(name)


def test_without_an_engine_one_sentence_says_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_line.main(["up", "--stack", "world"]) == 1
    assert capsys.readouterr().err.startswith("error: there is no pulumi on PATH")


def test_the_stacks_of_the_checkout_are_all_but_the_local_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(CHECKOUT)
    assert command_line.main(["stacks"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"onprem", "world"} <= set(found)
    assert "dev" not in found


def test_what_previews_wrote_becomes_the_comment_and_what_is_missing_is_told(
    ended: list[tuple[int, Run]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    posted: list[str] = []
    monkeypatch.setattr(github, "comment", lambda _api, number, _marker, body: posted.append(f"{number} {body}"))
    for name, value in (("API_URL", "https://api.example.org"), ("REPOSITORY", "o/r"), ("TOKEN", "t")):
        monkeypatch.setenv(f"GITHUB_{name}", value)
    ended.append((0, log("first-preview")))
    command_line.main(["preview", "--stack", "world", "--summary", str(tmp_path / "world.json")])
    words = ["comment", "--from", str(tmp_path), "--stacks", '["world", "azure"]', "--number", "5"]
    assert command_line.main(words) == 0
    assert posted[0].startswith("5 <!-- atlas-sites: preview -->")
    assert "### world: 10 to create" in posted[0]
    assert "### azure\nNo result" in posted[0]
