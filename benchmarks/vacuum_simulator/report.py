"""The table of a scenario."""

from collections.abc import Sequence

from benchmarks.vacuum_simulator.run import Row
from benchmarks.vacuum_simulator.scenarios import Scenario
from services.vacuum.model import Class

CLASSES = {
    str(Class.NO_WORK): "no work",
    str(Class.WORKED): "around work",
    str(Class.DISRUPTED): "disrupted",
    str(Class.SITE_FAULT): "site fault",
    str(Class.GRID_FAULT): "grid fault",
}


def table(scenario: Scenario, rows: Sequence[Row]) -> str:
    """Text, one line a controller; times in minutes, core-hours."""
    kinds = [kind for kind, _ in scenario.cores] if len(scenario.cores) > 1 else []
    head = ["", "delivered", *(f"of {kind}" for kind in kinds), "wasted", *CLASSES.values(), "other"]
    head += ["in quiet", "starts", "first, min", "90 %, min", "unproven", "needs"]
    lines = [head, *(_line(row, kinds) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join(
            cell.ljust(width) if column in {0, len(head) - 1} else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([f"{scenario.name}: {scenario.about}", "", *text])


def _line(row: Row, kinds: Sequence[str]) -> list[str]:
    known = {name: row.wasted.get(name, 0.0) for name in CLASSES}
    return [
        row.controller,
        _hours(row.delivered),
        *(_hours(row.delivered_by.get(kind, 0.0)) for kind in kinds),
        _hours(row.wasted_total),
        *(_hours(hours) for hours in known.values()),
        _hours(row.wasted_total - sum(known.values())),
        "-" if row.quiet is None else _hours(row.quiet),
        str(row.starts),
        _minutes(row.first),
        _minutes(row.recovered),
        str(row.unproven_max),
        row.needs,
    ]


def _hours(hours: float) -> str:
    return f"{hours:,.1f}"


def _minutes(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 60:,.1f}"
