"""What a stack may say of a site's money, and what of it cannot work."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from settings.values import Closed, Currency, ObjectName, Word, like

Uuid = Annotated[str, like(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "a UUID in small letters")]
Identity = Annotated[
    str,
    like(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[\w-]+@[\w.-]+\.iam\.gserviceaccount\.com|arn:[\w:/+=,.@-]+",
        "the client ID of an identity on Azure, the address of a Google service account, or the ARN of a role on AWS",
    ),
]
Group = Annotated[str, like(r"[\w().-]{1,90}", "the name of a resource group")]
Table = Annotated[str, like(r"[\w-]+\.\w+\.\w+", "a table of BigQuery, as in project.dataset.table")]
Money = Annotated[float, Field(gt=0, le=1e9)]


class Bill(Closed):
    """A cloud's bill, and the identity by which it is read."""

    source: Literal["azure", "google", "aws"]
    identity: Identity
    # Of Azure; a site on AKS has them.
    subscription: Uuid | None = None
    resource_groups: tuple[Group, ...] = ()
    # Of Google's export of the bill.
    table: Table | None = None
    hours: Annotated[int, Field(ge=1, le=24)] = 6


class Budget(Closed):
    """What the site may spend; when it is spent no more startds are made, and none is stopped."""

    per_day: Money | None = None
    per_month: Money | None = None


class Ledger(Closed):
    """Where the books are: on a claim of their own, or (mode scratch) in the pod, with which they go."""

    mode: Literal["claim", "scratch"] = "claim"
    mib: Annotated[int, Field(ge=64, le=1024 * 1024)] = 2048
    storage_class: ObjectName | None = None


class Series(Closed):
    """Where time series of the books are kept: in an InfluxDB of the site's own, or in one that is there already.

    `own` says on what volume. The keys of `secret`, of the site's namespace, are username and password, or token; it is
    left out where the database asks nobody who he is.
    """

    own: Ledger | None = None
    url: Annotated[str, like(r"https?://[^\s/?#|;]+", "an http:// or https:// address without a path")] | None = None
    database: Word | None = None
    secret: ObjectName | None = None


class Accounting(Closed):
    """The site's books: what it used, what that cost, and what it may cost."""

    currency: Currency
    vo: Word = "atlas"
    budget: Budget | None = None
    core_hour_price: Money | None = None
    hs23_per_core: Annotated[float, Field(gt=0, le=1000)] | None = None
    bill: Bill | None = None
    ledger: Ledger = Ledger()
    series: Series | None = None


def accounting_contradictions(
    accounting: Accounting, *, on_azure: bool, prices: Sequence[float | None]
) -> Iterator[str]:
    """One sentence, without its full stop, for each combination that cannot work.

    Args:
        accounting: of a site.
        on_azure: whether the site's cluster is on Azure, so that its subscription and groups are known.
        prices: of a node of each pool of the site, as the stack gives them.
    """
    bill, budget, series = accounting.bill, accounting.budget, accounting.series
    if (
        bill is not None
        and bill.source == "azure"
        and not on_azure
        and not (bill.subscription and bill.resource_groups)
    ):
        yield "accounting.bill needs subscription and resourceGroups, since the site's cluster is not of this stack"
    if bill is not None and bill.source == "google" and bill.table is None:
        yield "accounting.bill needs table: the export of the bill to BigQuery"
    if budget is not None and budget.per_day is None and budget.per_month is None:
        yield "accounting.budget says neither perDay nor perMonth: give one, or leave it out"
    if budget is not None and bill is None and accounting.core_hour_price is None and not any(prices):
        yield (
            "accounting.budget needs to know what is spent: give a bill, coreHourPrice, or pricePerHour of the pools"
        )
    yield from ledger_contradictions("accounting.ledger", accounting.ledger)
    if series is not None:
        yield from _series_contradictions(series)


def _series_contradictions(series: Series) -> Iterator[str]:
    given = series.url is not None and series.database is not None
    mixed = series.url is not None or series.database is not None or series.secret is not None
    if (mixed and series.own is not None) or not (given or series.own is not None):
        yield "accounting.series must be either own, or url and database"
    elif series.own is not None:
        yield from ledger_contradictions("accounting.series.own", series.own)
    elif series.secret is not None and _in_clear(series.url or ""):
        yield "accounting.series.url would send the Secret in clear over networks of others: make it https://"


def ledger_contradictions(path: str, ledger: Ledger) -> Iterator[str]:
    """What cannot be of a file that a site keeps, by the path of its key."""
    if ledger.mode == "scratch" and ledger.storage_class is not None:
        yield f"{path}.storageClass is of a claim: leave it out with mode scratch"


def _in_clear(url: str) -> bool:
    """Whether what is sent there can be read on its way, outside the cluster itself."""
    host = url.removeprefix("http://").partition(":")[0]
    return url.startswith("http://") and not host.removesuffix(".").removesuffix(".cluster.local").endswith(".svc")
