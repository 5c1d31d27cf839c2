"""The one comment and the one issue: made once, kept up to date, and nobody else's touched."""

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy import github
from deploy.drift import Issue

pytestmark = pytest.mark.fast

MARKER = "<!-- ours -->"
BODY = f"{MARKER}\nbody"


@dataclass
class Recorded:
    """GitHub with what is there, and a record of what was written."""

    there: list[dict[str, Any]] = field(default_factory=list)
    written: list[tuple[str, str, Mapping[str, object] | None]] = field(default_factory=list)

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> object:
        if method != "GET":
            self.written.append((method, path, body))
            return None
        page = int(path.rsplit("page=", 1)[1])
        return self.there[(page - 1) * github.PAGE : page * github.PAGE]


def said(body: str | None, number: int = 7, login: str = github.AUTHOR, state: str = "open") -> dict[str, Any]:
    return {"id": number, "number": number, "user": {"login": login}, "body": body, "state": state}


def test_the_first_time_there_is_a_new_comment() -> None:
    api = Recorded([said("nice", login="somebody"), said(None, login="somebody")])
    github.comment(api, 3, MARKER, BODY)
    assert api.written == [("POST", "/issues/3/comments", {"body": BODY})]


def test_later_it_is_written_anew_wherever_it_is() -> None:
    api = Recorded([*[said("nice", login="somebody")] * 150, said(f"{MARKER}\nold", 9)])
    github.comment(api, 3, MARKER, BODY)
    assert api.written == [("PATCH", "/issues/comments/9", {"body": BODY})]


def test_what_is_said_already_is_not_said_again() -> None:
    api = Recorded([said(BODY)])
    github.comment(api, 3, MARKER, BODY)
    assert api.written == []


def test_a_comment_with_our_marker_that_is_somebody_elses_is_left_alone() -> None:
    api = Recorded([said(f"{MARKER}\nforged", login="somebody")])
    github.comment(api, 3, MARKER, BODY)
    assert [method for method, _, _ in api.written] == ["POST"]


DRIFT, CLEAN = Issue(title="t", body=BODY, open=True), Issue(title="t", body=f"{MARKER}\nall is well", open=False)


@pytest.mark.parametrize(
    ("there", "wanted", "written"),
    [
        ([], DRIFT, [("POST", "/issues", {"title": "t", "body": BODY, "labels": ["drift"]})]),
        ([], CLEAN, []),
        ([said(BODY)], DRIFT, []),
        ([said(f"{MARKER}\nold")], DRIFT, [("PATCH", "/issues/7", {"title": "t", "body": BODY, "state": "open"})]),
        ([said(BODY)], CLEAN, [("PATCH", "/issues/7", {"title": "t", "body": CLEAN.body, "state": "closed"})]),
        ([said(CLEAN.body, state="closed")], CLEAN, []),
        (
            [said(CLEAN.body, state="closed")],
            DRIFT,
            [("PATCH", "/issues/7", {"title": "t", "body": BODY, "state": "open"})],
        ),
    ],
    ids=["it begins", "all well, never an issue", "the same", "it changes", "it ends", "still well", "it comes back"],
)
def test_there_is_one_issue_and_it_is_as_it_should_be(
    there: list[dict[str, Any]], wanted: Issue, written: list[object]
) -> None:
    api = Recorded(there)
    github.keep(api, MARKER, "drift", wanted)
    assert api.written == written


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str, str | None, Any]]]]:
    """A server of GitHub's API with what it was asked."""
    asked: list[tuple[str, str, str | None, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked.append((self.command, self.path, self.headers["Authorization"], body))
            self.send_response(403 if "forbidden" in self.path else 200)
            self.end_headers()
            self.wfile.write(b"[]" if self.command == "GET" else b'{"id": 1}')

        do_GET = do_POST = answer  # noqa: N815  the names are the library's

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/api/v3", asked
        listening.shutdown()
        thread.join()


def test_the_api_is_spoken_to_as_github_wants_it(server: tuple[str, list[tuple[str, str, str | None, Any]]]) -> None:
    url, asked = server
    github.comment(github.Rest(url=url, repository="o/r", token="t"), 3, MARKER, BODY)
    assert asked == [
        ("GET", "/api/v3/repos/o/r/issues/3/comments?per_page=100&page=1", "Bearer t", None),
        ("POST", "/api/v3/repos/o/r/issues/3/comments", "Bearer t", {"body": BODY}),
    ]


def test_a_refusal_says_what_was_asked_and_not_the_token(
    server: tuple[str, list[tuple[str, str, str | None, Any]]],
) -> None:
    with pytest.raises(RuntimeError, match="GitHub answers 403 to GET /forbidden") as refused:
        github.Rest(url=server[0], repository="o/r", token="hush").call("GET", "/forbidden")
    assert "hush" not in str(refused.value)
