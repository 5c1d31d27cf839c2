"""Which startds there were, from when to when, and what they asked for: seen in the API server, kept in the ledger.

A startd is one row with its own begin and end, so that it may be told of as often as one likes. It is seen from being
placed on a node to its end; one that came and went while nobody looked is not known here, but its outcome is counted by
the vacuum controller (`usage`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from services.accounting.ledger import Ledger
from services.accounting.rows import start_of
from services.kube import Json
from services.times import timestamp
from services.vacuum.cluster import NodePool, demand_of
from services.vacuum.model import SET_LABEL
from services.vacuum.objects import pod_of

MIB = 2**20
# Of a pod template of a StartdSet: whom its startds work for, if it is not whom the site works for.
VO_LABEL = "accounting.atlas-sites.io/vo"


@dataclass(frozen=True, kw_only=True, slots=True)  # there are ten thousand of them
class Startd:
    """A startd's pod.

    Attributes:
        uid: of the pod.
        name: of the pod.
        startd_set: that it is of.
        vo: that it works for.
        node: that it is on.
        millicores, memory_mib: that the scheduler keeps for it.
        began: when it was placed on its node, POSIX seconds.
        ended: when it ended; None while it lives.
    """

    uid: str
    name: str
    startd_set: str
    vo: str
    node: str
    millicores: int
    memory_mib: int
    began: float
    ended: float | None


@dataclass(frozen=True, kw_only=True)
class Time:
    """How long startds of one kind were there, together.

    Attributes:
        startd_set, vo, pool: of the startds.
        millicores, memory_mib: of each.
        seconds: of all of them together.
    """

    startd_set: str
    vo: str
    pool: str
    millicores: int
    memory_mib: int
    seconds: int


def startd_of(raw: Json, vo: str) -> Startd | None:
    """A pod as the API server has it; None before it has a node.

    Args:
        raw: the pod.
        vo: that the site works for.
    """
    pod = pod_of(raw)
    if pod.scheduled is None:
        return None
    requests, labels = demand_of(raw["spec"]).requests, raw["metadata"]["labels"]
    ended = pod.phase in {"Succeeded", "Failed"}
    return Startd(
        uid=pod.uid,
        name=pod.name,
        startd_set=labels[SET_LABEL],
        vo=labels.get(VO_LABEL) or vo,
        node=pod.node,
        millicores=round(1000 * requests.get("cpu", 0)),
        memory_mib=round(requests.get("memory", 0) / MIB),
        began=pod.scheduled,
        ended=(pod.finished or pod.scheduled) if ended else None,
    )


def record(ledger: Ledger, site: str, startds: Iterable[Startd], pools: Mapping[str, str], now: float) -> None:
    """Writes down that they are, or were, there; a later look knows better, an earlier one changes nothing.

    Args:
        ledger: to write to.
        site: that they are of.
        startds: those that live now, and those that have ended.
        pools: the pool of each node that is known to be of one.
        now: POSIX seconds.
    """
    ledger.write(
        "INSERT INTO startds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET"
        " seen = CASE WHEN startds.ended THEN startds.seen ELSE max(startds.seen, excluded.seen) END,"
        " ended = max(startds.ended, excluded.ended),"
        " pool = CASE WHEN startds.pool = '' THEN excluded.pool ELSE startds.pool END",
        (
            (
                each.uid, site, each.name, each.startd_set, each.vo, each.node, pools.get(each.node, ""),
                each.millicores, each.memory_mib, round(each.began),
                max(round(each.began), round(now if each.ended is None else each.ended)), each.ended is not None,
            )
            for each in startds
        ),
    )  # fmt: skip


def end(ledger: Ledger, site: str, ends: Iterable[tuple[str, float]]) -> None:
    """Writes down the ends, by the names of pods, of startds that were seen alive last.

    Args:
        ledger: to write to.
        site: that they are of.
        ends: each with its time, POSIX seconds.
    """
    ledger.write(
        "UPDATE startds SET seen = max(began, ?), ended = 1 WHERE site = ? AND name = ? AND ended = 0 AND began <= ?",
        ((round(at), site, name, round(at)) for name, at in ends),
    )


def times(ledger: Ledger, site: str, day: date) -> Iterator[Time]:
    """How long startds were there on a day of UTC, by what they are."""
    begin, over = start_of(day), start_of(day + timedelta(days=1))
    found = ledger.read(
        "SELECT startd_set, vo, pool, millicores, memory_mib, sum(min(seen, :over) - max(began, :begin)) FROM startds"
        " WHERE site = :site AND seen > :begin AND began < :over"
        " GROUP BY startd_set, vo, pool, millicores, memory_mib ORDER BY startd_set, vo, pool, millicores, memory_mib",
        {"site": site, "begin": begin, "over": over},
    )
    names = ("startd_set", "vo", "pool", "millicores", "memory_mib", "seconds")
    return (Time(**dict(zip(names, row, strict=True))) for row in found)


def pool_of(labels: Mapping[str, str], pools: Iterable[NodePool]) -> str:
    """The pool that a node with some labels is of; empty if it is of none."""
    return next((pool.name for pool in pools if pool.selector.items() <= labels.items()), "")


def auditor_records(ledger: Ledger, site: str, first: date, last: date, hs23: str) -> Iterator[Json]:
    """Startds that ended on some days, each as a record that AUDITOR takes (`RecordAdd`).

    Args:
        ledger: to read.
        site: whose they are.
        first: day.
        last: day, within.
        hs23: HEPscore23 of a core; empty if nobody measured it.
    """
    found = ledger.read(
        "SELECT uid, startd_set, vo, node, pool, millicores, memory_mib, began, seen FROM startds"
        " WHERE site = ? AND ended AND seen >= ? AND seen < ? ORDER BY seen, uid",
        (site, start_of(first), start_of(last + timedelta(days=1))),
    )
    scores = [{"name": "HEPscore23", "value": float(hs23)}] if hs23 else []
    for uid, startd_set, vo, node, pool, millicores, memory_mib, began, seen in found:
        yield {
            "record_id": f"{site}-{uid}",
            "meta": {"site_id": [site], "group_id": [vo], "startd_set": [startd_set], "node": [node], "pool": [pool]},
            # Components are whole numbers there.
            "components": [
                {"name": "Millicores", "amount": millicores, "scores": scores},
                {"name": "MemoryMiB", "amount": memory_mib, "scores": []},
            ],
            "start_time": timestamp(began),
            "stop_time": timestamp(seen),
        }
