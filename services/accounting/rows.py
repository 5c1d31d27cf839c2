"""What one line of the ledger says, and what a collector brings. Days are those of UTC."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum


class Basis(StrEnum):
    """What an amount means; sums never mix them.

    ACTUAL is billed on that day, with a reservation as one spike; AMORTISED spreads it over the days that it is for;
    ESTIMATED is price times time, known at once.
    """

    ACTUAL = "actual"
    AMORTISED = "amortised"
    ESTIMATED = "estimated"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one meter of a site cost on one day.

    Attributes:
        day: of UTC.
        meter: what was counted, and of which pool; with day, currency and basis it names the row.
        currency: by ISO 4217.
        micros: millionths of it; below 0 for a refund.
        pool: that the tags name; empty for what belongs to the site as a whole.
        service: of the cloud.
    """

    day: date
    meter: str
    currency: str
    micros: int
    pool: str = ""
    service: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All that a source says, at one time, of some days of a site.

    Attributes:
        source: who says so.
        site: that it is about.
        basis: of all its rows.
        first, last: days, both within.
        as_of: when it was asked for, POSIX seconds.
        pages: of rows, made while they are taken, so that no more than one is held.
    """

    source: str
    site: str
    basis: Basis
    first: date
    last: date
    as_of: int
    pages: Iterable[Sequence[Row]]


# A bill is closed some days after the end of its month; until then any day of it may be corrected.
SETTLED = timedelta(days=5)


def day_of(time: float) -> date:
    """The day of UTC that a time, POSIX seconds, is in."""
    return datetime.fromtimestamp(time, UTC).date()


def start_of(day: date) -> int:
    """POSIX seconds at which a day of UTC begins; each has 86,400 of them, whatever clocks do elsewhere."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def final(day: date, as_of: float) -> bool:
    """Whether what is read now of a day will not be corrected any more."""
    next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return as_of >= start_of(next_month + SETTLED)


def key_meter(meter: str, pool: str) -> str:
    """The name of a meter of a pool: two pools may buy the same."""
    return f"{pool}: {meter}" if pool else meter
