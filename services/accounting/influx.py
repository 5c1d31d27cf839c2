"""InfluxDB, by the `/write` that all its versions have: 1.x, and 2 and 3 for those who come from it."""

import gzip
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import requests

from services.accounting.collectors.source import retry_after
from services.accounting.money import Refused
from services.accounting.projection import Away, Unwritable

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
# As long as a server may ask us to wait.
LONGEST_PAUSE_SECONDS = 900.0
# To a question of one statement whose answer has no rows.
NOTHING = {"results": [{"statement_id": 0}]}


class Influx:
    """One database.

    One call is one attempt: what it did not take is still in the ledger, and whoever calls tries again later.
    """

    def __init__(self, url: str, database: str, secret: Path | None) -> None:
        """Remembers where it is.

        Args:
            url: of the server, without a path.
            database: in which series are.
            secret: a directory with the files username and password, or token; None where nobody asks who we are.
        """
        self._url = url.rstrip("/")
        self._database = database
        self._secret = secret
        self._session = requests.Session()

    @property
    def target(self) -> str:
        """Which database it is."""
        return f"{self._url} {self._database}"

    def lost(self, site: str) -> bool:
        """Whether the database is there and holds no series of that site; False where it does not say.

        Who may only write is told nothing, and versions differ in what they can be asked.

        Raises:
            Away: nobody answers.
            Refused: there is no password to ask with.
        """
        answer = self._post(
            "/query", {"db": self._database, "q": f"SHOW SERIES WHERE \"site\" = '{site}' LIMIT 1"}, b"", {}
        )
        try:
            said = answer.json()
        except requests.JSONDecodeError:
            return False
        return bool(said == NOTHING)

    def write(self, lines: Sequence[str]) -> None:
        """Writes points; when it returns the database has them.

        Raises:
            Away: it may have them, or not, and will take them again.
            Unwritable: it will never take them all.
            Refused: it does not know us, or the database.
        """
        answer = self._post(
            "/write",
            {"db": self._database, "precision": "s"},
            gzip.compress("\n".join(lines).encode(), mtime=0),
            {"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=utf-8"},
        )
        if answer.status_code in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
            return
        said = f"{self._url}: it answers {answer.status_code}: {answer.text[:200].strip()}"
        match answer.status_code:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                raise Refused("SeriesForbidden", f"{said}; look at the Secret that accounting.series names")
            case HTTPStatus.NOT_FOUND:
                raise Refused("SeriesDatabaseMissing", f"{said}; make the database {self._database}")
            case HTTPStatus.TOO_MANY_REQUESTS:
                raise Away(said, min(LONGEST_PAUSE_SECONDS, retry_after(answer.headers)))
            case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise Away(said, min(LONGEST_PAUSE_SECONDS, retry_after(answer.headers)))
            case _:
                raise Unwritable(said)

    def _post(
        self, path: str, parameters: Mapping[str, str], data: bytes, headers: Mapping[str, str]
    ) -> requests.Response:
        try:
            return self._session.post(
                f"{self._url}{path}",
                params=parameters,
                data=data,
                headers={**headers, **self._proof()},
                auth=self._user(),
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise Away(f"{self._url}: no answer ({type(error).__name__}); it is tried again") from None

    def _proof(self) -> dict[str, str]:
        token = self._read("token")
        return {} if token is None else {"Authorization": f"Token {token}"}

    def _user(self) -> tuple[str, str] | None:
        user, password = self._read("username"), self._read("password")
        if self._secret is not None and self._read("token") is None and (user is None or password is None):
            raise Refused(
                "SeriesSecretMissing",
                "the Secret that accounting.series names has neither token nor username and password; make it, or add "
                "what is missing (docs/runbooks/cost.md)",
            )
        return None if user is None or password is None else (user, password)

    def _read(self, key: str) -> str | None:
        """As it is now, for a Secret may be changed."""
        if self._secret is None:
            return None
        try:
            return (self._secret / key).read_text().strip()
        except FileNotFoundError:
            return None
