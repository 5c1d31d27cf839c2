"""A site's month, as its accounting tells it, and the sums that a page shows."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

HOUR = 3600
MICROS = 1_000_000
WORKED = "Worked"
Seconds = Annotated[int, Field(ge=0)]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel)


class Cost(_Told):
    """What a pool cost on a day, as far as a set of startds caused it; of a refund it is negative."""

    day: date
    pool: str
    set: str
    basis: str
    currency: str
    micros: int


class Use(_Told):
    """What a set's startds did, those that ended on a day: core-seconds, and how many, by what became of them."""

    day: date
    set: str
    vo: str
    held: Mapping[str, Seconds]
    ended: Mapping[str, Seconds]
    busy: Seconds
    lost: Seconds
    cpu: Seconds
    hs23_hours: float | None


class Books(_Told):
    """All of a month, of one site."""

    site: str
    costs: Sequence[Cost]
    usage: Sequence[Use]

    @property
    def wall(self) -> int:
        """Core-seconds that startds held."""
        return sum(sum(use.held.values()) for use in self.usage)

    @property
    def startds(self) -> int:
        """How many ended."""
        return sum(sum(use.ended.values()) for use in self.usage)

    @property
    def hs23_hours(self) -> float | None:
        """None if nobody measured a core."""
        known = [use.hs23_hours for use in self.usage if use.hs23_hours is not None]
        return sum(known) if known else None

    @property
    def efficiency(self) -> float | None:
        """Wall time with a payload that was not cut short, in parts of all of it; None without any."""
        return sum(use.busy - use.lost for use in self.usage) / self.wall if self.wall else None

    @property
    def cpu_efficiency(self) -> float | None:
        """CPU time in parts of wall time; None without any."""
        return sum(use.cpu for use in self.usage) / self.wall if self.wall else None

    @property
    def held(self) -> dict[str, dict[date, int]]:
        """Core-seconds by what became of startds and by day."""
        found: defaultdict[str, defaultdict[date, int]] = defaultdict(lambda: defaultdict(int))
        for use in self.usage:
            for what, seconds in use.held.items():
                found[what][use.day] += seconds
        return {what: dict(days) for what, days in sorted(found.items(), key=lambda each: each[0] != WORKED)}

    @property
    def wasted(self) -> dict[str, float]:
        """Core-hours of startds that did not work, by what became of them."""
        return {what: sum(days.values()) / HOUR for what, days in self.held.items() if what != WORKED}

    @property
    def totals(self) -> dict[tuple[str, str], float]:
        """Money by basis and currency, which are never added up."""
        found: defaultdict[tuple[str, str], int] = defaultdict(int)
        for cost in self.costs:
            found[cost.basis, cost.currency] += cost.micros
        return {key: amount / MICROS for key, amount in sorted(found.items())}

    def charged(self, basis: str, currency: str) -> dict[str, dict[date, int]]:
        """Millionths by pool and by day."""
        found: defaultdict[str, defaultdict[date, int]] = defaultdict(lambda: defaultdict(int))
        for cost in self.costs:
            if (cost.basis, cost.currency) == (basis, currency):
                found[cost.pool or "no pool"][cost.day] += cost.micros
        return {pool: dict(days) for pool, days in sorted(found.items())}
