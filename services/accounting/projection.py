"""The time series that a ledger makes: what of it a database has not got yet is written, again and again until it has.

The ledger is the spool. Whatever changes a day marks it, in the same transaction. Each point is noted before it is
written, and noted as sure when the database has taken it. So an outage of any length, a kill at any point or a second
writer loses nothing, and takes no more room than a line for each point. A point is named by its series and its day, and
overwrites what was there: to write it twice does no harm, and a correction, up or down, takes the place of what it
corrects. What a day no longer has is overwritten with 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Protocol

from services.accounting import attribution, lines, usage
from services.accounting.ledger import Ledger
from services.accounting.money import MICROS, Refused
from services.accounting.rows import start_of

# As InfluxDB recommends it.
BATCH = 5000
# https://docs.influxdata.com: names of measurements, which dashboards and queries use.
CHARGES, COST, OUTCOMES, USAGE = "atlas_charges", "atlas_cost", "atlas_outcomes", "atlas_usage"


class Database(Protocol):
    """Where time series are."""

    @property
    def target(self) -> str:
        """Which one it is: another one has nothing yet."""

    def lost(self, site: str) -> bool:
        """Whether it is there and holds no series of that site; False where it does not say.

        Raises:
            Away: it says nothing now.
        """

    def write(self, lines: Sequence[str]) -> None:
        """Writes points; when it returns the database has them.

        Raises:
            Away: it may have them, or not, and will take them again.
            Unwritable: it will never take them all.
            Refused: it does not know us, or is not there.
        """


class Away(Refused):
    """It does not take anything now.

    Attributes:
        pause: seconds that it asks us to wait; 0 if it says nothing.
    """

    def __init__(self, sentence: str, pause: float = 0.0) -> None:
        super().__init__("SeriesUnreachable", sentence)
        self.pause = pause


class Unwritable(Refused):
    """What the database says of these points it will say again; others may still be written."""

    def __init__(self, sentence: str) -> None:
        super().__init__("SeriesRefused", sentence)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What one series says of one day."""

    day: date
    series: str
    fields: str


def project(ledger: Ledger, site: str, hs23: str, database: Database, *, batch: int = BATCH) -> int:
    """Writes what the database has not got; how many points that were.

    Args:
        ledger: to read, and to note in what was taken.
        site: whose series they are.
        hs23: HEPscore23 of a core; empty if nobody measured it.
        database: to write to.
        batch: points at once.

    Raises:
        Refused: the database did not take all of it; what it took is noted, and the rest is written the next time.
    """
    # What was made anew, as on a volume that goes with its pod, is as good as another one.
    if ledger.target(site) != database.target or database.lost(site):
        ledger.retarget(site, database.target)
    refused: Unwritable | None = None
    # A day may be in several batches; it has all of it only if each of them was taken.
    lacking: set[str] = set()
    number = 0
    # Newest first: after a long outage people want to know of today.
    for points, whole in _batches(ledger, site, hs23, batch):
        noted = [(each.day.isoformat(), each.series, each.fields) for each in points]
        # If we are killed in between, the database may have a series that the ledger will never name again.
        ledger.note_projected(site, noted)
        try:
            if points:
                database.write([lines.line(each.series, each.fields, start_of(each.day)) for each in points])
        except Unwritable as error:
            refused = refused or error
            lacking |= {day for day, _, _ in noted}
            continue
        ledger.note_projected(site, noted, [mark for mark in whole if mark[0] not in lacking])
        number += len(points)
    if refused is not None:
        raise refused
    return number


def points(ledger: Ledger, site: str, day: date, hs23: str) -> dict[str, str]:
    """Fields of all series of a site on a day of UTC, by their names."""
    found: dict[str, dict[str, int | Decimal]] = {}

    def add(measurement: str, tags: Mapping[str, str], **values: int | Decimal) -> None:
        found[lines.series(measurement, {"site": site, **tags})] = values

    for (_, pool, startd_set, basis, currency), amount in attribution.attributed(ledger, site, day, day).items():
        add(
            COST,
            {"pool": pool, "set": startd_set, "basis": basis, "currency": currency},
            amount=Decimal(amount) / MICROS,
        )
    charged = ledger.sums("pool", "service", "source", site=site, first=day, last=day)
    for (pool, service, source, basis, currency), amount in charged.items():
        add(
            CHARGES,
            {"pool": pool, "service": service, "source": source, "basis": basis, "currency": currency},
            amount=Decimal(amount) / MICROS,
        )
    for each in usage.usages(ledger, site, day, day):
        tags = {"set": each.startd_set, "vo": each.vo}
        scored = each.hs23_hours(hs23)
        add(
            USAGE,
            tags,
            wall_core_seconds=each.wall,
            busy_core_seconds=each.busy,
            lost_core_seconds=each.lost,
            cpu_core_seconds=each.cpu,
            **({} if scored is None else {"hs23_hours": round(scored, 6)}),
        )
        for what in {**each.held, **each.ended}:
            add(
                OUTCOMES,
                {**tags, "class": what},
                core_seconds=each.held.get(what, 0),
                startds=each.ended.get(what, 0),
            )
    return {series: lines.fields(values) for series, values in found.items()}


def differences(wanted: Mapping[str, str], known: Mapping[str, tuple[str, bool]]) -> dict[str, str]:
    """What is to be written so that the database has what is wanted.

    Args:
        wanted: fields by series.
        known: fields that it was given at some time, and whether it is sure to have them.
    """
    gone = {series: lines.nought(before) for series, (before, _) in known.items() if series not in wanted}
    return {series: new for series, new in {**wanted, **gone}.items() if known.get(series) != (new, True)}


def _batches(ledger: Ledger, site: str, hs23: str, size: int) -> Iterator[tuple[list[Point], list[tuple[str, int]]]]:
    """Points to be written together, and the marks of days of which nothing is left after them."""
    pending: list[Point] = []
    whole: list[tuple[str, int]] = []
    for text, generation in ledger.changed(site):
        day = date.fromisoformat(text)
        new = differences(points(ledger, site, day, hs23), ledger.projected(site, text))
        for series, written in new.items():
            pending.append(Point(day=day, series=series, fields=written))
            if len(pending) == size:
                yield pending, whole
                pending, whole = [], []
        whole.append((text, generation))
    yield pending, whole
