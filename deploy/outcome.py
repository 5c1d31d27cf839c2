"""What became of each site in an update: a table for people, and whether all is well."""

from collections import Counter
from collections.abc import Mapping, Sequence

from deploy.events import NO_SITE, Failure, Kind, Run
from deploy.summary import COLUMNS, things

DONE: Mapping[Kind, str] = {"create": "CREATED", "update": "UPDATED", "replace": "REPLACED", "delete": "DELETED"}
PLANNED: Mapping[Kind, str] = {"create": "CREATE", "update": "UPDATE", "replace": "REPLACE", "delete": "DELETE"}
STACK = "(stack)"


def table(run: Run, only: str | None = None) -> str:
    """A line for each site: how many things were made, changed, replaced and deleted, and why no more of them.

    Args:
        run: what happened.
        only: the one site that was meant; the others are left out.
    """
    names = PLANNED if run.preview else DONE
    sites = [only] if only else [*run.sites, *([STACK] if _of_the_stack(run) else [])]
    lines = [["SITE", *(names[kind] for kind in COLUMNS), "WHAT BECAME OF IT"], *(_line(run, site) for site in sites)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS) + 1)]
    return "\n".join(
        "   ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]])
        for line in lines
    )


def _line(run: Run, site: str) -> Sequence[str]:
    own = NO_SITE if site == STACK else site
    counts = Counter(operation.kind for operation in things(run) if operation.site == own)
    return [site, *(str(counts[kind] or "-") for kind in COLUMNS), _fate(run, own, changed=bool(counts))]


def _fate(run: Run, site: str, *, changed: bool) -> str:
    reasons = [_reason(failure) for failure in run.failures if failure.site == site]
    reasons += [
        f"{violation.name}: {violation.policy}"
        for violation in run.violations
        if violation.site == site and violation.mandatory
    ]
    if reasons:
        return f"failed: {'; '.join(reasons)}"
    if run.ended != "succeeded" and site in _unfinished(run):
        return "not finished"
    return ("would change" if run.preview else "ready") if changed else "unchanged"


def _unfinished(run: Run) -> Sequence[str]:
    """Sites that may be half done: all when nothing says whose the failure is, for else the others go on without it."""
    explained = run.failures or any(violation.mandatory for violation in run.violations)
    return [] if run.ended == "failed" and explained else run.sites


def _reason(failure: Failure) -> str:
    return f"{failure.name}: {failure.message}" if failure.name else failure.message


def _of_the_stack(run: Run) -> bool:
    return NO_SITE in {*(operation.site for operation in things(run)), *(failure.site for failure in run.failures)}
