"""Bars for each day of a month, one above the other, as SVG."""

import io
from collections.abc import Mapping, Sequence
from datetime import date

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's, which people with any kind of colour vision tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")


def bars(parts: Mapping[str, Mapping[date, float]], days: Sequence[date], unit: str) -> str:
    """The picture, to be put into a page.

    Args:
        parts: by name and day; a day that is missing has nothing. What is negative hangs below the line.
        days: of the month.
        unit: of the values.
    """
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axes = figure.add_subplot()
    above, below = [0.0] * len(days), [0.0] * len(days)
    for number, (name, values) in enumerate(parts.items()):
        heights = [values.get(day, 0.0) for day in days]
        bottoms = [up if height >= 0 else down for height, up, down in zip(heights, above, below, strict=True)]
        colour = COLOURS[number % len(COLOURS)]
        axes.bar([day.day for day in days], heights, bottom=bottoms, label=name, color=colour, width=0.8)
        above = [up + max(0.0, height) for up, height in zip(above, heights, strict=True)]
        below = [down + min(0.0, height) for down, height in zip(below, heights, strict=True)]
    axes.set_ylabel(unit)
    axes.set_xlim(0.4, len(days) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(0, color="#333333", linewidth=0.8)
    axes.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    drawn = io.StringIO()
    # Letters stay letters, and the same month is the same file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    _, begin, rest = drawn.getvalue().partition("<svg")
    return begin + rest
