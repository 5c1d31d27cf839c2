"""What a preview says to those who review a change: per site what would be done, and what it would cost."""

from collections import Counter
from collections.abc import Sequence

from deploy import cost
from deploy.events import KINDS, NO_SITE, Operation, Run
from deploy.markdown import Section, bullets, code, plain

MARKER = "<!-- atlas-sites: preview -->"
HEAD = f"""{MARKER}
## What this change would do
Costs are those of a month with every job pool at its maximum, in the currency of its prices."""
COLUMNS = tuple(dict.fromkeys(KINDS.values()))
UNKNOWN = "?"


def section(stack: str, run: Run) -> Section:
    """A preview as Markdown: a table of the sites that change, then by name whatever is replaced, deleted or wrong."""
    lines = [
        f"### {plain(stack)}: {_verdict(run)}",
        *_table(run),
        *bullets("Cannot be done", _failures(run)),
        *bullets("Against a policy", _violations(run, mandatory=True)),
        *bullets("Replaced: what it is now is deleted", _named(run, "replace")),
        *bullets("Deleted", _named(run, "delete")),
        *bullets("Advice of policies", _violations(run, mandatory=False)),
    ]
    return Section(stack=stack, clean=run.clean and not run.violations, text="\n".join(lines))


def _verdict(run: Run) -> str:
    if run.ended != "succeeded":
        return "**fails**" if run.ended == "failed" else "**did not come to its end**"
    counts = Counter(operation.kind for operation in things(run))
    return ", ".join(f"{counts[kind]} to {kind}" for kind in COLUMNS if counts[kind]) or "no change"


def things(run: Run) -> Sequence[Operation]:
    """The operations on what is really there, without the components that only group it in the program."""
    return [operation for operation in run.operations if operation.custom]


def _table(run: Run) -> Sequence[str]:
    rows = [row for site in run.sites if (row := _row(run, site))]
    unchanged = len(run.sites) - len(rows)
    own = Counter(operation.kind for operation in things(run) if operation.site == NO_SITE)
    if own:
        rows.append(["(stack)", *(str(own[kind] or "") for kind in COLUMNS), "", ""])
    head = [
        ["site", *COLUMNS, "a month at most", "difference"],
        ["---", *("--:" for _ in COLUMNS), "--:", "--:"],
    ]
    rest = [f"\n{unchanged} {'site' if unchanged == 1 else 'sites'} without a change."] if unchanged else []
    return [*(f"| {' | '.join(row)} |" for row in (*head, *rows)), *rest] if rows else rest


def _row(run: Run, site: str) -> Sequence[str]:
    """A site's row; nothing when it stays as it is."""
    counts = Counter(operation.kind for operation in things(run) if operation.site == site)
    month = cost.of(run, site)
    if not counts and month.before == month.after:
        return []
    return [
        plain(site),
        *(str(counts[kind] or "") for kind in COLUMNS),
        UNKNOWN if month.after is None else f"{month.after:,.0f}",
        UNKNOWN if month.difference is None else f"{month.difference:+,.0f}",
    ]


def _failures(run: Run) -> Sequence[str]:
    if run.ended == "failed" and not run.failures and not any(violation.mandatory for violation in run.violations):
        return ["The program failed: its own words are in the run."]
    return [f"{_where(failure.site, failure.name)}: {plain(failure.message)}" for failure in run.failures]


def _violations(run: Run, *, mandatory: bool) -> Sequence[str]:
    return [
        f"{code(each.policy)}, {_where(each.site, each.name)}: {plain(each.message)}"
        for each in run.violations
        if each.mandatory == mandatory
    ]


def _named(run: Run, kind: str) -> Sequence[str]:
    return [
        f"{_where(each.site, each.name)}, {code(each.type)}"
        + (f" for {', '.join(map(code, each.properties))}" if each.properties else "")
        for each in things(run)
        if each.kind == kind
    ]


def _where(site: str, name: str | None) -> str:
    return " ".join([*([plain(site)] if site else []), *([code(name)] if name else [])]) or "the stack"
