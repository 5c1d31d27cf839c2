"""What the pages show, made of what the sites told: plain rows, filtered and sorted. Pure.

What nobody knows stays None down to the page, which says so; it is never counted as nought, and sorts last.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from services.portal.report import Bound, Cost, Report, Startd, StartdSet
from services.portal.store import Heard
from services.portal.words import spaced

# Sites push twice a minute.
SILENT_SECONDS = 180.0
NEARLY_SPENT = 0.9
PAGE_ROWS = 200
DOING = ("waiting", "starting", "unproven", "proven", "leaving", "ended")

Row = TypeVar("Row")
Query = Mapping[str, str]


class Tone(StrEnum):
    """How much somebody should look."""

    GOOD = "good"
    PLAIN = "plain"
    WARN = "warn"
    BAD = "bad"


_TONES = {
    "Steady": Tone.GOOD,
    "Ramping": Tone.GOOD,
    "Probing": Tone.PLAIN,
    "BackingOff": Tone.WARN,
    "Throttled": Tone.WARN,
    "Draining": Tone.PLAIN,
    "Blind": Tone.BAD,
    "Invalid": Tone.BAD,
}


@dataclass(frozen=True, kw_only=True)
class Concern:
    """Something that is about to break, or has."""

    tone: Tone
    text: str


@dataclass(frozen=True, kw_only=True)
class SiteRow:
    """One site at a glance.

    Attributes:
        heard: when it was heard last, POSIX seconds; None for never.
        silent: it should have been heard since.
        states: of its sets, each once.
        running, proven, total, limit: startds of all its sets; None if the site could not see them.
        waiting: startds that have no node yet.
        proxy: seconds that are left of it.
        hits: share of requests that the squids answered by themselves.
    """

    name: str
    atlas_site: str = ""
    heard: float | None = None
    silent: bool = True
    states: tuple[str, ...] = ()
    running: int | None = None
    proven: int | None = None
    total: int | None = None
    limit: int | None = None
    waiting: int | None = None
    cost: Cost | None = None
    proxy: float | None = None
    hits: float | None = None
    concerns: tuple[Concern, ...] = ()

    @property
    def tone(self) -> Tone:
        """That of its worst concern."""
        found = {concern.tone for concern in self.concerns}
        return next((tone for tone in (Tone.BAD, Tone.WARN) if tone in found), Tone.GOOD)


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Rows of a table as a page shows them.

    Attributes:
        rows: of this page.
        found: that the filter let through, on all pages.
        whole: without the filter.
        number, pages: which page it is, from 1, of how many.
    """

    rows: Sequence[Any]
    found: int
    whole: int
    number: int = 1
    pages: int = 1


@dataclass(frozen=True, kw_only=True)
class Totals:
    """All sites that were heard lately."""

    sites: int
    silent: int
    running: int
    waiting: int
    spent: Mapping[str, float] = field(default_factory=dict)
    concerns: int = 0


def tone_of(state: str) -> Tone:
    """How much somebody should look at a set in this state."""
    return _TONES.get(state, Tone.PLAIN)


def hit_ratio(report: Report) -> float | None:
    """The share of requests that the squids answered by themselves; None if nobody knows, or nobody asked."""
    counted = [squid for squid in report.squids or () if squid.requests is not None and squid.hits is not None]
    requests = sum(squid.requests or 0 for squid in counted)
    return sum(squid.hits or 0 for squid in counted) / requests if requests else None


def site_row(name: str, heard: Heard | None, now: float) -> SiteRow:
    """A site at a glance.

    Args:
        name: of the site.
        heard: what it said last; None if it never did.
        now: POSIX seconds.
    """
    if heard is None:
        return SiteRow(name=name, concerns=(Concern(tone=Tone.BAD, text="it was never heard"),))
    report = heard.report
    counts = [each.status.startds for each in report.sets or ()]
    known = [count for count in counts if count is not None]
    seen = bool(report.sets is not None and len(known) == len(counts))
    limits = [each.status.limit for each in report.sets or ()]
    silent = now - heard.at > SILENT_SECONDS
    return SiteRow(
        name=name,
        atlas_site=report.atlas_site,
        heard=heard.at,
        silent=silent,
        states=tuple(dict.fromkeys(each.status.state for each in report.sets or () if each.status.state)),
        running=sum(count.running for count in known) if seen else None,
        proven=sum(count.proven for count in known) if seen else None,
        total=sum(count.total for count in known) if seen else None,
        limit=sum(limit or 0 for limit in limits) if report.sets is not None and None not in limits else None,
        waiting=None if report.startds is None else sum(each.doing == "waiting" for each in report.startds),
        cost=report.cost,
        proxy=None if report.proxy is None else report.proxy.ends - now,
        hits=hit_ratio(report),
        concerns=tuple(_concerns(report, now, silent=silent)),
    )


def _concerns(report: Report, now: float, *, silent: bool) -> Iterable[Concern]:
    if silent:
        yield Concern(tone=Tone.BAD, text="it is silent: what is shown is what it said last")
    for each in report.sets or ():
        yield from _set_concerns(each)
    if report.proxy is not None:
        left = report.proxy.ends - now
        if left <= report.proxy.critical:
            yield Concern(tone=Tone.BAD, text="the proxy is about to end: pilots refuse to start")
        elif left <= report.proxy.warning:
            yield Concern(tone=Tone.WARN, text="the proxy is old: it is not being renewed")
    if report.cost is not None:
        yield from _cost_concerns(report.cost)
    for squid in report.squids or ():
        if squid.requests is None:
            yield Concern(tone=Tone.WARN, text=f"{squid.name} does not answer")
    for sentence in report.problems:
        yield Concern(tone=Tone.WARN, text=sentence)


def _set_concerns(startd_set: StartdSet) -> Iterable[Concern]:
    name, status = startd_set.name, startd_set.status
    if tone_of(status.state) in {Tone.WARN, Tone.BAD}:
        yield Concern(tone=tone_of(status.state), text=f"{name} is {spaced(status.state)}: {status.message}")
    for node in status.blamed_nodes:
        yield Concern(tone=Tone.WARN, text=f"{name} avoids node {node.name}: {node.reason}")


def _cost_concerns(cost: Cost) -> Iterable[Concern]:
    if cost.over:
        yield Concern(tone=Tone.BAD, text="the budget is spent: no more startds are made")
        return
    for spent, limit, when in ((cost.today, cost.per_day, "today's"), (cost.month, cost.per_month, "this month's")):
        if limit and spent >= NEARLY_SPENT * limit:
            yield Concern(tone=Tone.WARN, text=f"{when} budget is nearly spent")


SITE_KEYS: Mapping[str, Callable[[SiteRow], Any]] = {
    "site": lambda row: row.name,
    "running": lambda row: row.running,
    "waiting": lambda row: row.waiting,
    "today": lambda row: None if row.cost is None else (row.cost.currency, row.cost.today),
    "month": lambda row: None if row.cost is None else (row.cost.currency, row.cost.month),
    "proxy": lambda row: row.proxy,
    "hits": lambda row: row.hits,
    "seen": lambda row: row.heard,
}
STARTD_KEYS: Mapping[str, Callable[[Startd], Any]] = {
    "name": lambda row: _natural(row.name),
    "node": lambda row: _natural(row.node) if row.node else None,
    "doing": lambda row: DOING.index(row.doing) if row.doing in DOING else len(DOING),
    "age": lambda row: -row.created,
}


def sites(names: Collection[str], known: Mapping[str, Heard], query: Query, now: float) -> tuple[Sheet, Totals]:
    """The rows of the overview, and what all sites together do.

    Args:
        names: of all sites of the stack, heard or not.
        known: what they said last.
        query: `q` part of a name, `show` concerns or silent, `sort` a key of SITE_KEYS, after a minus for the reverse.
        now: POSIX seconds.
    """
    every = [site_row(name, known.get(name), now) for name in names]
    wanted = query.get("q", "").strip().lower()
    rows = [row for row in every if wanted in row.name.lower() or wanted in row.atlas_site.lower()]
    if query.get("show") == "concerns":
        rows = [row for row in rows if row.concerns]
    elif query.get("show") == "silent":
        rows = [row for row in rows if row.silent]
    rows = arranged(rows, SITE_KEYS, query.get("sort", ""), "site")
    return Sheet(rows=rows, found=len(rows), whole=len(every)), _totals(every)


def _totals(rows: Sequence[SiteRow]) -> Totals:
    heard = [row for row in rows if not row.silent]
    spent: dict[str, float] = {}
    for row in heard:
        if row.cost is not None:
            spent[row.cost.currency] = spent.get(row.cost.currency, 0) + row.cost.today
    return Totals(
        sites=len(rows),
        silent=len(rows) - len(heard),
        running=sum(row.running or 0 for row in heard),
        waiting=sum(row.waiting or 0 for row in heard),
        spent=dict(sorted(spent.items())),
        concerns=sum(bool(row.concerns) for row in rows),
    )


def startds(report: Report, name: str, query: Query) -> Sheet | None:
    """The startds of a set; None if the site could not see them.

    Args:
        report: of the site.
        name: of the set.
        query: `q` part of a name or node, `doing` a word of DOING, `sort` a key of STARTD_KEYS, `page` from 1.
    """
    if report.startds is None:
        return None
    every = [each for each in report.startds if each.set == name]
    wanted, doing = query.get("q", "").strip().lower(), query.get("doing", "")
    rows = [each for each in every if wanted in each.name.lower() or wanted in each.node.lower()]
    if doing in DOING:
        rows = [each for each in rows if each.doing == doing]
    rows = arranged(rows, STARTD_KEYS, query.get("sort", ""), "name")
    pages = max(1, -(-len(rows) // PAGE_ROWS))
    asked = query.get("page", "")
    number = min(pages, max(1, int(asked))) if re.fullmatch(r"[0-9]{1,6}", asked) else 1
    shown = rows[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]
    return Sheet(rows=shown, found=len(rows), whole=len(every), number=number, pages=pages)


def doing(report: Report, name: str) -> Mapping[str, int] | None:
    """How many startds of a set do what; None if the site could not see them."""
    if report.startds is None:
        return None
    found = [each.doing for each in report.startds if each.set == name]
    return {word: found.count(word) for word in DOING if word in found}


def bounds(startd_set: StartdSet) -> Sequence[Bound]:
    """What limits the set, the one that rules first; those that nobody knows last."""
    return sorted(startd_set.status.bounds, key=lambda bound: (bound.startds is None, bound.startds or 0))


def arranged(rows: Iterable[Row], keys: Mapping[str, Callable[[Row], Any]], sort: str, otherwise: str) -> list[Row]:
    """Rows in the order that is asked for, or else in the usual one; those without a value last in either direction."""
    name = sort.removeprefix("-")
    found = _ascending(rows, keys[otherwise], reverse=sort == f"-{otherwise}")
    if name in keys and name != otherwise:
        found = _ascending(found, keys[name], reverse=sort.startswith("-"))
    return found


def _ascending(rows: Iterable[Row], key: Callable[[Row], Any], *, reverse: bool) -> list[Row]:
    keyed = [(key(row), row) for row in rows]
    known = sorted((each for each in keyed if each[0] is not None), key=lambda each: each[0], reverse=reverse)
    return [row for _, row in known] + [row for value, row in keyed if value is None]


def _natural(name: str) -> tuple[str, int]:
    """A number at the end counts as a number: startds-9 comes before startds-10."""
    head, _, tail = name.rpartition("-")
    return (head, int(tail)) if tail.isdecimal() else (name, 0)
