"""The hub's memory: the last report of each site and when it was heard, in SQLite.

A report is written before the site is told that it was taken, in one transaction: a hub that is killed at any moment
comes back with the last report that it took, or the one before.
"""

import sqlite3
import threading
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from services.portal.report import Report, read
from services.process import log

SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS reports (
    site TEXT PRIMARY KEY, heard REAL NOT NULL, content BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""


class Unusable(Exception):
    """The file cannot be used; one sentence."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a site said last.

    Attributes:
        at: when, by the hub's clock, POSIX seconds.
    """

    at: float
    report: Report


class Store:
    """The file; may be used from any thread."""

    def __init__(self, path: Path) -> None:
        """Opens it, and makes it if it is not there.

        Raises:
            Unusable: it is no such file, or one of a later version.
        """
        self._path = path
        self._turn = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise Unusable(f"{path}: it is of version {version}; run the release that wrote it")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise Unusable(f"{path}: it cannot be used ({error})") from None

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def put(self, site: str, heard: Heard) -> None:
        """Replaces what a site said last, whole or not at all.

        Raises:
            Unusable: it cannot be written; what was there stays.
        """
        content = zlib.compress(heard.report.written(), level=1)
        try:
            with self._turn:
                self._db.execute(
                    "INSERT INTO reports VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET heard = excluded.heard, content = excluded.content",
                    (site, heard.at, content),
                )
        except sqlite3.Error as error:
            raise Unusable(f"{self._path}: it cannot be written ({error})") from None

    def all(self, sites: Collection[str]) -> dict[str, Heard]:
        """What these sites said last; others are not of the stack any more, and are forgotten.

        A report that this release cannot read is passed over: the site will soon push another one.

        Raises:
            Unusable: it cannot be read.
        """
        found: dict[str, Heard] = {}
        try:
            with self._turn:
                rows = self._db.execute("SELECT site, heard, content FROM reports").fetchall()
                for site, at, content in rows:
                    if site not in sites:
                        self._db.execute("DELETE FROM reports WHERE site = ?", (site,))
                        continue
                    try:
                        found[site] = Heard(at=at, report=read(zlib.decompress(content)))
                    except (zlib.error, ValueError) as error:
                        log(event="problem", message=f"what {site} said last cannot be read any more: {error}")
        except sqlite3.Error as error:
            raise Unusable(f"{self._path}: it cannot be read ({error})") from None
        return found
