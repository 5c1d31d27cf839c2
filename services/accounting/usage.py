"""What startds did with the time they had, from the outcomes that the vacuum controller counted.

Its counters only grow, so the last value that was seen on each day tells what each day brought; a day on which nobody
looked is in the next one that somebody did. Cores here are those that startds offer to payloads.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from services.accounting.ledger import Ledger
from services.accounting.rows import day_of
from services.kube import Json
from services.vacuum.model import Class
from services.vacuum.objects import status_of

HOUR = 3600
_HELD, _ENDED, _BUSY, _LOST, _CPU = "held/", "ended/", "busy", "lost", "cpu"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the startds that ended in some time took and gave.

    Attributes:
        site, startd_set, vo: of the startds.
        held: core-seconds from their start to their end, by what became of them: wall time.
        ended: how many, by what became of them.
        busy: core-seconds with a payload.
        lost: core-seconds of payloads that were cut short.
        cpu: core-seconds that were used: CPU time.
    """

    site: str
    startd_set: str
    vo: str
    held: Mapping[Class, int] = field(default_factory=dict)
    ended: Mapping[Class, int] = field(default_factory=dict)
    busy: int = 0
    lost: int = 0
    cpu: int = 0

    @property
    def wall(self) -> int:
        """Core-seconds in all."""
        return sum(self.held.values())

    @property
    def efficiency(self) -> float | None:
        """The part of it with a payload that was not cut short; None without any."""
        return (self.busy - self.lost) / self.wall if self.wall else None

    @property
    def cpu_efficiency(self) -> float | None:
        """CPU time in parts of wall time; None without any."""
        return self.cpu / self.wall if self.wall else None

    @property
    def wasted(self) -> Mapping[Class, int]:
        """Core-seconds of startds that did not work, by what became of them."""
        return {what: seconds for what, seconds in self.held.items() if what is not Class.WORKED and seconds}

    def hs23_hours(self, hs23: str) -> Decimal | None:
        """Wall time in HS23-hours, for a HEPscore23 of one core; None if nobody measured it."""
        return Decimal(self.wall) / HOUR * Decimal(hs23) if hs23 else None


def note(ledger: Ledger, site: str, startdset: Json, vo: str, now: float) -> None:
    """Writes the counters of a set down, as of a day; told twice they are the same.

    Args:
        ledger: to write to.
        site: of the set.
        startdset: as the API server has it.
        vo: that its startds work for.
        now: POSIX seconds.
    """
    meta, status = startdset["metadata"], status_of(startdset)
    counters = {
        **{f"{_HELD}{what}": number for what, number in status.usage.held.items()},
        **{f"{_ENDED}{what}": number for what, number in status.outcomes.items()},
        _BUSY: status.usage.busy,
        _LOST: status.usage.lost,
        _CPU: status.usage.cpu,
    }
    ledger.write(
        "INSERT INTO counters VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " value = max(counters.value, excluded.value), as_of = max(counters.as_of, excluded.as_of)",
        (
            (site, meta["uid"], day_of(now).isoformat(), counter, meta["name"], vo, value, round(now))
            for counter, value in counters.items()
        ),
    )


def usages(ledger: Ledger, site: str, first: date, last: date) -> list[Usage]:
    """What each set of a site used.

    Args:
        ledger: to read.
        site: that is asked for.
        first: day.
        last: day, within.
    """
    # Sets are told apart by their UIDs, since one that was made anew begins to count anew.
    found = ledger.read(
        "SELECT startd_set, vo, counter, sum(value) FROM ("
        " SELECT startd_set, vo, counter, max(value) - coalesce(("
        "  SELECT max(before.value) FROM counters AS before WHERE before.site = c.site AND before.uid = c.uid"
        "  AND before.counter = c.counter AND before.day < :first), 0) AS value"
        " FROM counters AS c WHERE site = :site AND day BETWEEN :first AND :last GROUP BY uid, counter)"
        " GROUP BY startd_set, vo, counter",
        {"site": site, "first": first.isoformat(), "last": last.isoformat()},
    )
    sets: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for startd_set, vo, counter, value in found:
        sets[startd_set, vo][counter] = value
    return [
        Usage(
            site=site,
            startd_set=startd_set,
            vo=vo,
            held=_by_class(counters, _HELD),
            ended=_by_class(counters, _ENDED),
            busy=counters.get(_BUSY, 0),
            lost=counters.get(_LOST, 0),
            cpu=counters.get(_CPU, 0),
        )
        for (startd_set, vo), counters in sorted(sets.items())
    ]


def table(usages: Iterable[Usage], hs23: str) -> str:
    """For people: hours, a line for each set."""
    lines = ["SITE  SET  VO  STARTDS  CORE-HOURS  HS23-HOURS  EFFICIENCY  CPU  WASTED"]
    for each in usages:
        scored = each.hs23_hours(hs23)
        wasted = ", ".join(f"{what} {seconds / HOUR:.1f}" for what, seconds in sorted(each.wasted.items()))
        lines.append(
            f"{each.site}  {each.startd_set}  {each.vo}  {sum(each.ended.values())}  {each.wall / HOUR:.1f}  "
            f"{'unknown' if scored is None else f'{scored:.1f}'}  "
            f"{_percent(each.efficiency)}  {_percent(each.cpu_efficiency)}  {wasted or 'nothing'}"
        )
    return "\n".join(lines)


def _percent(part: float | None) -> str:
    return "none" if part is None else f"{part:.0%}"


def _by_class(counters: Mapping[str, int], prefix: str) -> dict[Class, int]:
    return {
        Class(counter.removeprefix(prefix)): value for counter, value in counters.items() if counter.startswith(prefix)
    }
