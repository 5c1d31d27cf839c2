"""A scenario as a figure: cores that run payloads, and cores that are held without one, over time."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.vacuum_simulator.ledger import HOUR
from benchmarks.vacuum_simulator.run import Row
from benchmarks.vacuum_simulator.scenarios import Scenario


def draw(scenario: Scenario, rows: Sequence[Row], place: Path) -> None:
    """Writes a PNG with one panel a controller."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  slow to load, and only needed here
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 1.3 * len(rows) + 1), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for panel, row in zip(panels, rows, strict=True):
        hours = [time / HOUR for time, _, _ in row.samples]
        busy = [busy for _, busy, _ in row.samples]
        taken = [taken for _, _, taken in row.samples]
        panel.fill_between(hours, busy, step="post", color="tab:blue", linewidth=0, label="runs payloads")
        panel.fill_between(hours, busy, taken, step="post", color="tab:red", linewidth=0, label="held without one")
        for fault in scenario.faults:
            panel.axvspan(fault.start, min(fault.end, scenario.hours), color="black", alpha=0.08, linewidth=0, zorder=0)
        if scenario.returns:
            panel.axvline(scenario.returns, color="black", linewidth=0.8, linestyle=":")
        panel.set_ylabel(row.controller, rotation=0, ha="right", va="center")
        panel.tick_params(direction="in")
    panels[0].set_title(f"{scenario.name}: {scenario.about}", fontsize=9)
    panels[0].legend(fontsize=7, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.05))
    panels[0].set_xlim(0, scenario.hours)
    panels[0].set_ylim(0, None)
    panels[-1].set_xlabel(
        "hours (cores on the vertical axes; grey: while a fault lasts; dotted: work, or health, is back)"
    )
    figure.savefig(place, dpi=110)
