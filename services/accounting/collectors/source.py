"""What every source of costs gives, and what reading bills over HTTP takes: patience, pages, and clear refusals."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Protocol

import requests

from services.accounting.money import Refused
from services.accounting.rows import Basis, Row

Json = dict[str, Any]

CALL_SECONDS = 120.0
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 2.0
# Longer pauses than an hour's quota are left to the next turn of the loop.
LONGEST_PAUSE_SECONDS = 900.0
# A site has some hundred meters a day; a bill that goes on and on is a mistake.
PAGES_MAX = 10_000


class Source(Protocol):
    """A source of costs of one site.

    Attributes:
        name: of it, as the ledger has it.
        bases: that it can tell.
    """

    @property
    def name(self) -> str:
        """Of it, as the ledger has it."""

    @property
    def bases(self) -> Sequence[Basis]:
        """That it can tell."""

    def pages(self, basis: Basis, first: date, last: date) -> Iterator[Sequence[Row]]:
        """The rows of some days, both within, page by page.

        Raises:
            Refused: one sentence about what cannot be used, or may not be read.
        """


class Caller:
    """Calls to one API: a time limit on each, few attempts, and as much patience as the server asks for."""

    def __init__(
        self,
        name: str,
        *,
        headers: Callable[[bytes, str], Mapping[str, str]],
        permission: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Makes a caller.

        Args:
            name: of the API, as sentences begin.
            headers: that prove who we are, for a body and an address.
            permission: what to give us when we are refused, as a sentence ends.
            sleep: waits for seconds.
        """
        self._name = name
        self._headers = headers
        self._permission = permission
        self._sleep = sleep
        self._session = requests.Session()

    def call(self, method: str, url: str, body: Json | None = None) -> Json:
        """One answer; numbers in it are exact.

        Raises:
            Refused: there is none.
        """
        content = b"" if body is None else json.dumps(body).encode()
        pause = FIRST_PAUSE_SECONDS
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(min(LONGEST_PAUSE_SECONDS, pause))
                pause = FIRST_PAUSE_SECONDS * 2.0**attempt
            try:
                answer = self._session.request(
                    method,
                    url,
                    data=content,
                    headers=dict(self._headers(content, url)),
                    timeout=CALL_SECONDS,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                why = f"no answer ({type(error).__name__})"
                continue
            if answer.ok:
                return self._object(answer)
            why = f"it answers {answer.status_code}: {answer.text[:200]}"
            if throttled(answer):
                pause = retry_after(answer.headers) or pause
                if pause > LONGEST_PAUSE_SECONDS:
                    break
            elif answer.status_code in {401, 403}:
                raise Refused("PermissionMissing", f"{self._name}: {why}; {self._permission}")
            elif answer.status_code < 500:
                raise Refused("BillRefused", f"{self._name}: {why}")
        raise Refused("BillUnreachable", f"{self._name}: {why}; it is tried again")

    def close(self) -> None:
        """Closes all connections."""
        self._session.close()

    def _object(self, answer: requests.Response) -> Json:
        try:
            found = json.loads(answer.content, parse_float=Decimal)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Refused("BillUnreadable", f"{self._name}: what it answers is not an object in JSON")
        return found


def throttled(answer: requests.Response) -> bool:
    """Whether it means: not so fast. AWS says so with 400."""
    return answer.status_code == HTTPStatus.TOO_MANY_REQUESTS or (
        answer.status_code == HTTPStatus.BAD_REQUEST
        and any(word in answer.text for word in ("ThrottlingException", "LimitExceededException"))
    )


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait: the longest that any header asks for; 0 if none does."""
    asked = [value for key, value in headers.items() if key.lower().endswith("retry-after")]
    return max((float(value) for value in asked if value.replace(".", "", 1).isdecimal()), default=0.0)


class Pages:
    """Makes sure that pages end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: set[str] = set()

    def follow(self, onward: str) -> str:
        """The way to the next page, as it is.

        Raises:
            Refused: it was followed before, or there is no end.
        """
        if onward in self._seen or len(self._seen) >= PAGES_MAX:
            raise Refused("PageRepeated", f"{self._name}: the pages of the bill lead in a circle; nothing is taken")
        self._seen.add(onward)
        return onward


def day_from(text: object, name: str) -> date:
    """The day that a bill names, as 20261124 or 2026-11-24 with or without a time of UTC behind.

    Raises:
        Refused: it is none.
    """
    digits = str(text)[:10].replace("-", "")[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        raise Refused("DayUnreadable", f"{name}: a day is {text!r}; one as in 2026-11-24 is needed") from None
