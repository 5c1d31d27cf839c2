"""Why a set has so many startds and not one more, for people and for programs."""

from collections.abc import Mapping
from typing import Any

from services.times import timestamp
from services.vacuum.model import Decision, Term
from services.vacuum.payload import clock

RECENT = 5


def table(name: str, decision: Decision) -> str:
    """All that bounds the set, the term that rules first."""
    status = decision.status
    count = status.startds
    outcomes = ", ".join(f"{what} {number}" for what, number in sorted(status.outcomes.items())) or "none yet"
    lines = [
        f"{name}: {status.state}. {status.message}",
        f"  startds    {count.total} ({count.running} running, {count.proven} proven, {count.unproven} unproven)",
        f"  circuit    {status.circuit}, back-off level {status.level}",
        f"  outcomes   {outcomes}",
    ]
    lines += [
        f"  avoids     {node.name} until {clock(node.until)}: {node.reason}, for the {node.level}. time in a row"
        for node in status.blamed
    ]
    lines += ["  room for   because"]
    lines += [
        f"  {'unknown' if term.allows is None else max(0, term.allows):>8}   {term.name}: {term.because}"
        for term in _in_order(decision)
    ]
    lines += [
        f"  {result.name}: {result.what} ({result.reason}) after {result.seconds:.0f} s on {result.node or 'no node'}"
        for result in status.recent[:RECENT]
    ]
    return "\n".join(lines)


def facts(name: str, decision: Decision) -> Mapping[str, Any]:
    """The same for programs: plain values, times in RFC 3339, what nobody knows as null."""
    status = decision.status
    return {
        "set": name,
        "state": str(status.state),
        "message": status.message,
        "limit": status.limit,
        "startds": {
            "total": status.startds.total,
            "running": status.startds.running,
            "proven": status.startds.proven,
            "unproven": status.startds.unproven,
        },
        "window": status.window,
        "circuit": {
            "state": str(status.circuit),
            "level": status.level,
            "until": None if status.until is None else timestamp(status.until),
        },
        "blamedNodes": [{"name": node.name, "until": timestamp(node.until)} for node in status.blamed],
        "terms": [
            {
                "name": term.name,
                "allows": None if term.allows is None else max(0, term.allows),
                "because": term.because,
            }
            for term in _in_order(decision)
        ],
        "outcomes": {str(what): number for what, number in sorted(status.outcomes.items())},
        "next": None if decision.wake is None else timestamp(decision.wake),
    }


def _in_order(decision: Decision) -> list[Term]:
    return sorted(decision.explanation, key=lambda term: (term.allows is None, term.allows))
