"""What startds cost by a table of prices: known at once, and all there is where nobody sends a bill.

A startd costs the part of a node that is kept for it, the larger one of cores and memory, for as long as it is there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from services.accounting.ledger import Ledger
from services.accounting.money import Refused, micros
from services.accounting.rows import Basis, Row, key_meter
from services.accounting.startds import Time, times
from services.vacuum.cluster import NodePool

NAME = "prices"
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What time costs.

    Attributes:
        currency: by ISO 4217.
        pools: with their prices of a node for an hour.
        core_hour: of a core on any other node; None if nobody says.
    """

    currency: str
    pools: Sequence[NodePool] = ()
    core_hour: Decimal | None = None

    @property
    def known(self) -> bool:
        """Whether there is any price at all."""
        return self.core_hour is not None or any(pool.price is not None for pool in self.pools)


class PriceTable:
    """The estimated costs of a site's startds."""

    name = NAME
    bases: Sequence[Basis] = (Basis.ESTIMATED,)

    def __init__(self, ledger: Ledger, site: str, prices: Prices) -> None:
        self._ledger = ledger
        self._site = site
        self._prices = prices

    def pages(self, basis: Basis, first: date, last: date) -> Iterator[Sequence[Row]]:
        """The rows of some days; as `Source` has it."""
        if basis is not Basis.ESTIMATED:
            raise ValueError(basis)
        while first <= last:
            yield priced(times(self._ledger, self._site, first), first, self._prices)
            first += timedelta(days=1)


def priced(startds: Iterable[Time], day: date, prices: Prices) -> list[Row]:
    """What startds cost on a day, a row for each set and pool.

    Raises:
        Refused: nobody says what one of them costs.
    """
    costs: dict[tuple[str, str], Decimal] = {}
    for each in startds:
        key = (each.startd_set, each.pool)
        costs[key] = costs.get(key, Decimal(0)) + Decimal(each.seconds) / 3600 * _per_hour(each, prices)
    return [
        Row(
            day=day,
            meter=key_meter(f"startds of {startd_set}", pool),
            currency=prices.currency,
            micros=micros(cost.quantize(Decimal("1e-6"), ROUND_HALF_EVEN)),
            pool=pool,
            service="startds",
        )
        for (startd_set, pool), cost in costs.items()
    ]


def _per_hour(each: Time, prices: Prices) -> Decimal:
    """What one startd costs for an hour."""
    pool = next((pool for pool in prices.pools if pool.name == each.pool and pool.price is not None), None)
    if pool is not None:
        cores = Decimal(each.millicores) / 1000 / Decimal(str(pool.holds["cpu"]))
        memory = Decimal(each.memory_mib) * MIB / Decimal(str(pool.holds["memory"]))
        return max(cores, memory) * Decimal(str(pool.price))
    if prices.core_hour is None:
        where = f"of pool {each.pool}" if each.pool else "of no pool"
        raise Refused(
            "PriceUnknown",
            f"prices: a startd of {each.startd_set} is on a node {where}, which has no price: give the pool its "
            "pricePerHour, or accounting.coreHourPrice for all others",
        )
    return Decimal(each.millicores) / 1000 * prices.core_hour
