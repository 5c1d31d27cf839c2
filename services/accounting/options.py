"""What the accounting is told by its environment, which its Deployment sets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from services.accounting.budget import Budget
from services.accounting.money import Refused, currency, micros
from services.accounting.projection import Database
from services.environment import needed

SOURCES = ("azure", "google", "aws")


@dataclass(frozen=True, kw_only=True)
class Options:
    """All of it.

    Attributes:
        site: whose costs they are, as tags and labels have it.
        ledger: the file.
        bill: which cloud sends one; empty if none does.
        subscription: of Azure.
        groups: resource groups of Azure that are the site's.
        table: of Google's export.
        role: of AWS.
        currency: of prices and budget.
        budget: None without one.
        core_hour: price of a core for an hour on nodes of no pool.
        vo: that the site works for.
        hs23: HEPscore23 of a core; empty if nobody measured it.
        bill_hours: between two readings of the bill.
        series: where time series are kept; None if nowhere.
        port: to tell the health on.
    """

    site: str
    ledger: Path
    bill: str
    subscription: str
    groups: tuple[str, ...]
    table: str
    role: str
    currency: str
    budget: Budget | None
    core_hour: Decimal | None
    vo: str
    hs23: str
    bill_hours: int
    series: Database | None
    port: int


def options(environment: Mapping[str, str]) -> Options:
    """What the environment says.

    Raises:
        ValueError: one sentence about a variable that cannot be used.
    """

    def amount(variable: str) -> int | None:
        text = environment.get(variable, "")
        try:
            found = micros(text) if text else None
        except Refused:
            found = 0
        if found is not None and found <= 0:
            raise ValueError(f"{variable} is {text!r}; it must be a positive number")
        return found

    text = partial(needed, environment)
    bill = environment.get("BILL", "")
    if bill and bill not in SOURCES:
        raise ValueError(f"BILL is {bill!r}; it must be one of {', '.join(SOURCES)}")
    try:
        money = currency(environment.get("CURRENCY", ""))
    except Refused as refused:
        raise ValueError(f"CURRENCY: {refused}") from None
    per_day, per_month = amount("BUDGET_PER_DAY"), amount("BUDGET_PER_MONTH")
    core_hour, hs23 = amount("CORE_HOUR_PRICE"), amount("HS23_PER_CORE")
    hours = environment.get("BILL_HOURS", "6")
    if not hours.isdecimal() or not int(hours):
        raise ValueError(f"BILL_HOURS is {hours!r}; it must be a positive whole number")
    return Options(
        site=text("SITE", r"[a-z0-9-]+", "cern"),
        ledger=Path(text("LEDGER", r"/.+", "/var/lib/atlas-sites/ledger.db")),
        bill=bill,
        subscription=text("SUBSCRIPTION", r"[0-9a-f-]{36}", "a UUID") if bill == "azure" else "",
        groups=tuple(text("RESOURCE_GROUPS", r"[^,]+(,[^,]+)*", "one,two").split(",")) if bill == "azure" else (),
        table=text("EXPORT_TABLE", r"[\w-]+\.\w+\.\w+", "project.dataset.table") if bill == "google" else "",
        role=text("AWS_ROLE_ARN", r"arn:[\w:/+=,.@-]+", "arn:aws:iam::123:role/x") if bill == "aws" else "",
        currency=money,
        budget=Budget(currency=money, per_day=per_day, per_month=per_month) if per_day or per_month else None,
        core_hour=None if core_hour is None else Decimal(environment["CORE_HOUR_PRICE"]),
        vo=environment.get("VO", ""),
        hs23=environment["HS23_PER_CORE"] if hs23 is not None else "",
        bill_hours=int(hours),
        series=_series(environment),
        port=int(environment.get("PORT", "8080")),
    )


def _series(environment: Mapping[str, str]) -> Database | None:
    url, database = environment.get("SERIES_URL", ""), environment.get("SERIES_DATABASE", "")
    if not url:
        return None
    if not re.fullmatch(r"https?://[^/\s?#]+/?", url):
        raise ValueError(f"SERIES_URL is {url!r}; it must be as in http://influxdb.monitoring.svc:8086")
    if not database:
        raise ValueError("SERIES_DATABASE is empty; it must be the name of a database")
    from services.accounting.influx import Influx  # noqa: PLC0415  what it speaks by is not loaded in vain

    secret = environment.get("SERIES_SECRET", "")
    return Influx(url, database, Path(secret) if secret else None)
