"""What a site has spent and what it may: the verdict that the vacuum controller reads. Pure.

The verdict is a promise with an end: who reads it after that knows nothing, makes no more startds, and ends none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from services.accounting.money import Refused, shown
from services.accounting.rows import Basis, day_of
from services.kube import Json
from services.times import timestamp

# How long a verdict is good for; it is renewed several times in that.
TTL_SECONDS = 3600
# A bill comes once in a while; an older one tells nothing of today, unless startds are priced as they run.
BILL_SECONDS = 48 * 3600
ESTIMATE_SECONDS = 900


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a site may spend, in millionths of a currency; None is no limit."""

    currency: str
    per_day: int | None = None
    per_month: int | None = None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a site spent up to now, in millionths of the budget's currency."""

    today: int
    this_month: int


def spent(sums: Mapping[tuple[str, str, str], int], currency: str, today: date) -> Spent:
    """What was spent on a day and in its month.

    Bills come late and estimates leave out what no startd is; so of each day the larger one counts.

    Args:
        sums: by day, basis and currency, of one site.
        currency: of the budget.
        today: of UTC.

    Raises:
        Refused: there are costs in another currency, which nobody may add up.
    """
    days: dict[date, dict[str, int]] = {}
    for (day_text, basis, paid_in), amount in sums.items():
        day = date.fromisoformat(day_text)
        if (day.year, day.month) != (today.year, today.month) or day > today or basis == Basis.AMORTISED:
            continue
        if paid_in != currency:
            if amount:
                raise Refused(
                    "CurrencyMixed",
                    f"costs of {day} are in {paid_in} and the budget is in {currency}: write the budget in {paid_in}",
                )
            continue
        days.setdefault(day, {})[basis] = amount
    larger = {day: max(amounts.values()) for day, amounts in days.items()}
    return Spent(today=larger.get(today, 0), this_month=sum(larger.values()))


def verdict(budget: Budget, spent: Spent, now: float) -> Json:
    """What the vacuum controller is told, as in the key budget.json of the ConfigMap budget."""
    parts, over = [], []
    for limit, amount, when in (
        (budget.per_day, spent.today, "today"),
        (budget.per_month, spent.this_month, "this month"),
    ):
        if limit is not None:
            parts.append(f"{shown(amount)} of {shown(limit)} {budget.currency} are spent {when}")
            if amount >= limit:
                over.append(when)
    return {
        "over": bool(over),
        "message": ", ".join(parts),
        "day": day_of(now).isoformat(),
        "asOf": timestamp(now),
        "until": timestamp(now + TTL_SECONDS),
    }


def fresh(*, estimated: float | None, billed: float | None, now: float) -> bool:
    """Whether what is known of costs tells of today.

    Args:
        estimated: when startds were priced last, POSIX seconds; None for never.
        billed: when the bill was read last.
        now: POSIX seconds.
    """
    return (estimated is not None and now - estimated <= ESTIMATE_SECONDS) or (
        billed is not None and now - billed <= BILL_SECONDS
    )
