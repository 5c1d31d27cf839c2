"""Who caused what was billed: a pool's costs of a day, divided among StartdSets by the core-seconds they had there.

What no startd used, and what belongs to the site as a whole, stays with nobody. Parts add up to the bill exactly.
"""

from collections import defaultdict
from datetime import date

from services.accounting.ledger import Ledger
from services.accounting.money import split
from services.accounting.startds import times

# No StartdSet: Kubernetes knows no empty names.
NOBODY = ""
Key = tuple[str, str, str, str, str]


def attributed(ledger: Ledger, site: str, first: date, last: date) -> dict[Key, int]:
    """Millionths by day, pool, set, basis and currency.

    Args:
        ledger: to read.
        site: whose costs they are.
        first: day.
        last: day, within.
    """
    found: dict[Key, int] = {}
    weights: dict[str, dict[str, dict[str, int]]] = {}
    for (day, pool, basis, currency), amount in ledger.sums("day", "pool", site=site, first=first, last=last).items():
        if day not in weights:
            weights[day] = _weights(ledger, site, date.fromisoformat(day))
        parts = split(amount, weights[day].get(pool, {})) if pool else {}
        for startd_set, part in (parts or {NOBODY: amount}).items():
            found[day, pool, startd_set, basis, currency] = part
    return found


def _weights(ledger: Ledger, site: str, day: date) -> dict[str, dict[str, int]]:
    """Core-seconds of each set in each pool."""
    weights: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for each in times(ledger, site, day):
        sets = weights[each.pool]
        sets[each.startd_set] = sets.get(each.startd_set, 0) + each.millicores * each.seconds
    return weights
