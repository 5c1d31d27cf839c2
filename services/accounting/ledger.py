"""The ledger: one row for each site, charge day, meter, currency and basis, in SQLite.

A reading is taken whole or not at all, in one transaction, and only if nothing newer is known: it may be repeated, cut
off anywhere or run beside another one, and no row is lost or doubled. What a later reading no longer holds becomes 0
and says so; it is not deleted, so that what was made from it can be corrected too.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from services.accounting.money import Refused, currency
from services.accounting.rows import Basis, Reading, Row, final

SCHEMA_VERSION = 1
# As long as another one's transaction over a million rows may take.
BUSY_SECONDS = 60.0
GROUPINGS = ("site", "day", "meter", "currency", "basis", "pool", "service", "source", "flag")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    site TEXT NOT NULL, day TEXT NOT NULL, meter TEXT NOT NULL, currency TEXT NOT NULL, basis TEXT NOT NULL,
    micros INTEGER NOT NULL, pool TEXT NOT NULL, service TEXT NOT NULL, source TEXT NOT NULL,
    flag TEXT NOT NULL, as_of INTEGER NOT NULL,
    PRIMARY KEY (site, day, meter, currency, basis)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS days (
    site TEXT NOT NULL, source TEXT NOT NULL, basis TEXT NOT NULL, day TEXT NOT NULL,
    as_of INTEGER NOT NULL, final INTEGER NOT NULL,
    PRIMARY KEY (site, source, basis, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS startds (
    uid TEXT PRIMARY KEY, site TEXT NOT NULL, name TEXT NOT NULL, startd_set TEXT NOT NULL, vo TEXT NOT NULL,
    node TEXT NOT NULL, pool TEXT NOT NULL, millicores INTEGER NOT NULL, memory_mib INTEGER NOT NULL,
    began INTEGER NOT NULL, seen INTEGER NOT NULL, ended INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS startds_by_time ON startds (seen, began);
CREATE TABLE IF NOT EXISTS counters (
    site TEXT NOT NULL, uid TEXT NOT NULL, day TEXT NOT NULL, counter TEXT NOT NULL,
    startd_set TEXT NOT NULL, vo TEXT NOT NULL, value INTEGER NOT NULL, as_of INTEGER NOT NULL,
    PRIMARY KEY (site, uid, counter, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changed (
    site TEXT NOT NULL, day TEXT NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (site, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS projected (
    site TEXT NOT NULL, day TEXT NOT NULL, series TEXT NOT NULL, fields TEXT NOT NULL, sure INTEGER NOT NULL,
    PRIMARY KEY (site, day, series)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS targets (site TEXT PRIMARY KEY, target TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
# Another number each time, so that who has worked off an older mark cannot take off a newer one.
_MARK = """
INSERT INTO changed VALUES (?, ?, random()) ON CONFLICT DO UPDATE SET generation = excluded.generation
"""
_STAGE = """
CREATE TEMP TABLE IF NOT EXISTS staged (
    day TEXT NOT NULL, meter TEXT NOT NULL, currency TEXT NOT NULL,
    micros INTEGER NOT NULL, pool TEXT NOT NULL, service TEXT NOT NULL,
    PRIMARY KEY (day, meter, currency)
) STRICT, WITHOUT ROWID;
DELETE FROM temp.staged;
"""
_MERGE = """
INSERT INTO charges
    SELECT :site, day, meter, currency, :basis, micros, pool, service, :source,
           CASE WHEN micros < 0 THEN 'negative' ELSE '' END, :as_of
    FROM temp.staged WHERE true
ON CONFLICT DO UPDATE SET
    micros = excluded.micros, pool = excluded.pool, service = excluded.service, source = excluded.source,
    flag = excluded.flag, as_of = excluded.as_of
WHERE excluded.as_of >= charges.as_of
"""
_WITHDRAW = """
UPDATE charges SET micros = 0, flag = 'withdrawn', as_of = :as_of
WHERE site = :site AND basis = :basis AND source = :source AND day BETWEEN :first AND :last
    AND as_of < :as_of AND flag <> 'withdrawn'
    AND NOT EXISTS (
        SELECT 1 FROM temp.staged AS s
        WHERE s.day = charges.day AND s.meter = charges.meter AND s.currency = charges.currency
    )
"""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of a reading.

    Attributes:
        rows: that it had.
        withdrawn: rows of the ledger that it no longer had.
        outdated: something newer was known already, so that nothing was taken.
    """

    rows: int
    withdrawn: int = 0
    outdated: bool = False


class Ledger:
    """The file.

    Any number of processes may have it open; a thread needs a `Ledger` of its own.
    """

    def __init__(self, path: Path) -> None:
        """Opens it, and makes it if it is not there.

        Raises:
            Refused: it is not a ledger, or one of a later version.
        """
        # What is staged may be larger than a small /tmp, and in a pod nothing else can be written.
        os.environ.setdefault("SQLITE_TMPDIR", str(path.parent))
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise Refused("LedgerNewer", f"{path}: it is of version {version}; run the release that wrote it")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.Error as error:
            raise Refused("LedgerUnusable", f"{path}: it cannot be used as a ledger ({error})") from None

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, reading: Reading) -> Taken:
        """Takes a reading in, whole or not at all.

        Raises:
            Refused: a row is repeated, or is not of the days that were asked for; or nothing is left of what there was.
        """
        self._db.executescript(_STAGE)
        number = 0
        for page in reading.pages:
            number += self._stage(page, reading)
        told = {
            "site": reading.site,
            "basis": reading.basis,
            "source": reading.source,
            "first": reading.first.isoformat(),
            "last": reading.last.isoformat(),
            "as_of": reading.as_of,
        }
        with self._transaction():
            newer = self._db.execute(
                "SELECT count(*) FROM days WHERE site = :site AND basis = :basis AND source = :source"
                " AND day BETWEEN :first AND :last AND as_of > :as_of",
                told,
            ).fetchone()
            if newer[0]:
                return Taken(rows=number, outdated=True)
            if not number:
                self._refuse_to_forget(reading, told)
            self._db.execute(_MERGE, told)
            withdrawn = self._db.execute(_WITHDRAW, told).rowcount
            self._db.executemany(
                "INSERT OR REPLACE INTO days VALUES (:site, :source, :basis, :day, :as_of, :final)",
                (
                    {**told, "day": day.isoformat(), "final": final(day, reading.as_of)}
                    for day in days(reading.first, reading.last)
                ),
            )
            self._mark(reading.site, reading.first, reading.last)
        self._db.execute("DELETE FROM temp.staged")
        return Taken(rows=number, withdrawn=withdrawn)

    def first_open(self, site: str, source: str, basis: Basis, earliest: date, today: date) -> date:
        """The first day from `earliest` to today that may still change, and is to be read again."""
        known = {
            day
            for (day,) in self._db.execute(
                "SELECT day FROM days WHERE site = ? AND source = ? AND basis = ? AND final = 1 AND day >= ?",
                (site, source, basis, earliest.isoformat()),
            )
        }
        day = earliest
        while day < today and day.isoformat() in known:
            day += timedelta(days=1)
        return day

    def gaps(self, site: str, source: str, basis: Basis) -> list[date]:
        """Days that were read and have no row, between days that have: nobody says that they cost nothing."""
        found = self._db.execute(
            "WITH held AS (SELECT DISTINCT day FROM charges WHERE site = :site AND source = :source AND basis = :basis)"
            " SELECT day FROM days WHERE site = :site AND source = :source AND basis = :basis"
            " AND day > (SELECT min(day) FROM held) AND day < (SELECT max(day) FROM held)"
            " AND day NOT IN (SELECT day FROM held) ORDER BY day",
            {"site": site, "source": source, "basis": basis},
        )
        return [date.fromisoformat(day) for (day,) in found]

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, in the order of their keys; no more than one is held."""
        cursor = self._db.execute("SELECT * FROM charges ORDER BY site, day, meter, currency, basis")
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield dict(zip(names, row, strict=True))

    def sums(
        self, *by: str, site: str | None = None, first: date = date.min, last: date = date.max
    ) -> dict[tuple[str, ...], int]:
        """Millionths by some columns; by basis and currency besides, which nobody may add up.

        Args:
            by: columns of GROUPINGS.
            site: whose rows alone; None for those of all.
            first: day.
            last: day, within.
        """
        columns = [*dict.fromkeys([*by, "basis", "currency"])]
        unknown = set(columns) - set(GROUPINGS)
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: not among {', '.join(GROUPINGS)}")
        found = self._db.execute(
            f"SELECT {', '.join(columns)}, sum(micros) FROM charges"  # noqa: S608  of ours
            f" WHERE {'' if site is None else 'site = :site AND '}day BETWEEN :first AND :last"
            f" GROUP BY {', '.join(columns)}",
            {"site": site, "first": first.isoformat(), "last": last.isoformat()},
        )
        return {tuple(row[:-1]): row[-1] for row in found}

    def read(self, query: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows of a query of one of the modules of this package."""
        return iter(self._db.execute(query, values))

    def write(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Carries a statement of one of the modules of this package out for each row, all together or not at all."""
        with self._transaction():
            self._db.executemany(statement, rows)

    def mark(self, site: str, first: date, last: date) -> None:
        """Says that days, both within, may have changed, so that time series of them are looked at again."""
        with self._transaction():
            self._mark(site, first, last)

    def changed(self, site: str) -> list[tuple[str, int]]:
        """The days that are marked, the newest first, each with its mark."""
        return list(self._db.execute("SELECT day, generation FROM changed WHERE site = ? ORDER BY day DESC", (site,)))

    def target(self, site: str) -> str:
        """The database that has the time series; empty before there was one."""
        found = self._db.execute("SELECT target FROM targets WHERE site = ?", (site,)).fetchone()
        return str(found[0]) if found else ""

    def retarget(self, site: str, target: str) -> None:
        """Forgets what a database has, so that all of it is written again, to this one."""
        with self._transaction():
            self._db.execute("UPDATE projected SET sure = 0 WHERE site = ?", (site,))
            self._db.execute("INSERT OR REPLACE INTO targets VALUES (?, ?)", (site, target))
            known = self._db.execute(
                "SELECT day FROM charges WHERE site = :site UNION SELECT day FROM counters WHERE site = :site"
                " UNION SELECT day FROM projected WHERE site = :site",
                {"site": site},
            ).fetchall()
            self._db.executemany(_MARK, ((site, day) for (day,) in known))

    def projected(self, site: str, day: str) -> dict[str, tuple[str, bool]]:
        """Fields by series that a database was given of a day, and whether it is sure to have them."""
        found = self._db.execute("SELECT series, fields, sure FROM projected WHERE site = ? AND day = ?", (site, day))
        return {series: (fields, bool(sure)) for series, fields, sure in found}

    def note_projected(
        self, site: str, points: Iterable[tuple[str, str, str]], whole: Iterable[tuple[str, int]] | None = None
    ) -> None:
        """Notes what a database is given, or has taken.

        Args:
            site: whose it is.
            points: day, series and fields of each.
            whole: days of which it now has all, each with its mark; one that was marked anew since stays marked. None
                if nobody knows yet whether it has the points.
        """
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO projected VALUES (?, ?, ?, ?, ?)",
                ((site, *point, whole is not None) for point in points),
            )
            self._db.executemany(
                "DELETE FROM changed WHERE site = ? AND day = ? AND generation = ?",
                ((site, *mark) for mark in whole or ()),
            )

    def _mark(self, site: str, first: date, last: date) -> None:
        self._db.executemany(_MARK, ((site, day.isoformat()) for day in days(first, last)))

    def _stage(self, page: Sequence[Row], reading: Reading) -> int:
        """Puts a page aside; how many rows it had."""
        first, last = reading.first.isoformat(), reading.last.isoformat()
        for row in page:
            if not first <= row.day.isoformat() <= last:
                raise Refused(
                    "DayNotAskedFor",
                    f"{reading.source}: a row is of {row.day}, and {first} to {last} was asked for; nothing is taken",
                )
        # One by one only for a second look at a page that is wrong.
        self._db.execute("SAVEPOINT page")
        try:
            self._db.executemany(
                "INSERT INTO temp.staged VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (row.day.isoformat(), row.meter, currency(row.currency), row.micros, row.pool, row.service)
                    for row in page
                ),
            )
        except sqlite3.IntegrityError:
            self._db.execute("ROLLBACK TO page")
            raise Refused(
                "RowRepeated",
                f"{reading.source}: {self._repeated(page)} comes twice, so a page was repeated; nothing is taken, "
                "and it is read again",
            ) from None
        finally:
            self._db.execute("RELEASE page")
        return len(page)

    def _repeated(self, page: Iterable[Row]) -> str:
        seen: set[tuple[str, str, str]] = set()
        for row in page:
            key = (row.day.isoformat(), row.meter, row.currency)
            there = self._db.execute(
                "SELECT 1 FROM temp.staged WHERE day = ? AND meter = ? AND currency = ?", key
            ).fetchone()
            if there or key in seen:
                return f"{row.meter} of {row.day} in {row.currency}"
            seen.add(key)
        return "a row"

    def _refuse_to_forget(self, reading: Reading, told: dict[str, Any]) -> None:
        held = self._db.execute(
            "SELECT count(*) FROM charges WHERE site = :site AND basis = :basis AND source = :source"
            " AND day BETWEEN :first AND :last AND micros <> 0",
            told,
        ).fetchone()
        if held[0]:
            raise Refused(
                "BillEmpty",
                f"{reading.source}: no row from {reading.first} to {reading.last}, of which {held[0]} were known; they "
                "are kept: look whether the scope and the permissions are still right",
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def days(first: date, last: date) -> Iterator[date]:
    """Each day from one to another, both within."""
    return (first + timedelta(days=number) for number in range((last - first).days + 1))
