"""Why a set has so many startds and not one more, as text."""

from services.vacuum.model import Decision


def explain(name: str, decision: Decision) -> str:
    """A table of all that bounds the set, the term that rules first."""
    status = decision.status
    count = status.startds
    outcomes = ", ".join(f"{what} {number}" for what, number in sorted(status.outcomes.items())) or "none yet"
    lines = [
        f"{name}: {status.state}. {status.message}",
        f"  startds    {count.total} ({count.running} running, {count.proven} proven, {count.unproven} unproven)",
        f"  circuit    {status.circuit}, back-off level {status.level}",
        f"  outcomes   {outcomes}",
        "  room for   because",
    ]
    terms = sorted(decision.explanation, key=lambda term: (term.allows is None, term.allows))
    lines += [
        f"  {'unknown' if term.allows is None else max(0, term.allows):>8}   {term.name}: {term.because}"
        for term in terms
    ]
    lines += [
        f"  {result.name}: {result.what} ({result.reason}) after {result.seconds:.0f} s on {result.node or 'no node'}"
        for result in status.recent[:5]
    ]
    return "\n".join(lines)
