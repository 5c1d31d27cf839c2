"""What a site's node pools cost in a month when all of them are full."""

from collections.abc import Sequence
from dataclasses import dataclass

from deploy.events import Pool, Pools, Run

HOURS = 730  # a year's, over twelve: as the clouds' own calculators reckon


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a month, before and after; None where a price or a pool is not known."""

    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """How much more it is, if that is known."""
        return None if self.before is None or self.after is None else self.after - self.before


def of(run: Run, site: str) -> Cost:
    """Of one site, in the currency of its prices; a site that is not there costs nothing."""
    return Cost(before=_month(run.pools_before, site), after=_month(run.pools_after, site))


def _month(pools: Pools | None, site: str) -> float | None:
    if pools is None:
        return None
    return _sum(pools.get(site, ()))


def _sum(pools: Sequence[Pool] | None) -> float | None:
    if pools is None:
        return None
    total = 0.0
    for pool in pools:
        if pool.price_per_hour is None:
            return None
        total += pool.most * pool.price_per_hour * HOURS
    return total
