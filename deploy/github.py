"""The one comment on a pull request and the one issue about drift that workflows keep up to date.

It runs where a token may write, so it needs nothing but Python's own library.
"""

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from deploy.drift import Issue

AUTHOR = "github-actions[bot]"
PAGE = 100
SECONDS = 30.0


class Api(Protocol):
    """GitHub, for one repository."""

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401  JSON
        """The answer to a request; the path begins after that of the repository."""


@dataclass(frozen=True, kw_only=True)
class Rest:
    """GitHub's REST API.

    Attributes:
        url: of the API, as in https://api.github.com.
        repository: owner and name.
        token: of the workflow.
    """

    url: str
    repository: str
    token: str

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401  JSON
        """As `Api`.

        Raises:
            RuntimeError: GitHub refuses.
            OSError: it cannot be reached.
        """
        place = urlsplit(self.url)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        connection = kind(place.netloc, timeout=SECONDS)
        try:
            connection.request(
                method,
                f"{place.path}/repos/{self.repository}{path}",
                None if body is None else json.dumps(body),
                {
                    "Authorization": f"Bearer {self.token}",
                    "Accept": "application/vnd.github+json",
                    "Content-Type": "application/json",
                    "User-Agent": "atlas-sites",
                    "X-GitHub-Api-Version": "2022-11-28",
                },
            )
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"GitHub answers {answer.status} to {method} {path}: {text[:200]}")
        return json.loads(text) if text else None


def comment(api: Api, number: int, marker: str, body: str) -> None:
    """Writes our comment on a pull request, or writes it anew.

    Args:
        api: where.
        number: of the pull request.
        marker: the first line, by which ours is known.
        body: Markdown that begins with the marker.
    """
    for found in _pages(api, f"/issues/{number}/comments"):
        if _ours(found, marker):
            if found["body"] != body:
                api.call("PATCH", f"/issues/comments/{found['id']}", {"body": body})
            return
    api.call("POST", f"/issues/{number}/comments", {"body": body})


def keep(api: Api, marker: str, label: str, wanted: Issue) -> None:
    """Opens, rewrites, closes or opens again the one issue with that marker; nothing where all is as it should be."""
    state = "open" if wanted.open else "closed"
    for found in _pages(api, f"/issues?state=all&labels={label}"):
        if _ours(found, marker):
            if (found["state"], found["body"]) != (state, wanted.body):
                change = {"title": wanted.title, "body": wanted.body, "state": state}
                api.call("PATCH", f"/issues/{found['number']}", change)
            return
    if wanted.open:
        api.call("POST", "/issues", {"title": wanted.title, "body": wanted.body, "labels": [label]})


def _ours(found: Mapping[str, Any], marker: str) -> bool:
    """Whether we wrote it: a marker alone could be anybody's."""
    return found["user"]["login"] == AUTHOR and (found["body"] or "").startswith(marker)


def _pages(api: Api, path: str) -> Iterator[Mapping[str, Any]]:
    number = 1
    mark = "&" if "?" in path else "?"
    while found := api.call("GET", f"{path}{mark}per_page={PAGE}&page={number}"):
        yield from found
        if len(found) < PAGE:
            return
        number += 1
