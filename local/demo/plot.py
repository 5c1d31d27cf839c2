"""The merged histogram as a figure."""

import math
from pathlib import Path

from local.demo.results import Histogram


def draw(histogram: Histogram, jobs: int, place: Path) -> None:
    """Writes the differential cross section of the leading jet as PNG, with Poisson errors."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  slow to load, and only needed here
    from matplotlib.figure import Figure  # noqa: PLC0415

    edges, counts = histogram.edges, histogram.counts
    filled = [index for index, count in enumerate(counts) if count]
    widths = [edges[index + 1] - edges[index] for index in filled]
    per_event = histogram.sigma_pb / histogram.events
    values = [counts[index] * per_event / width for index, width in zip(filled, widths, strict=True)]
    errors = [value / math.sqrt(counts[index]) for index, value in zip(filled, values, strict=True)]
    centres = [(edges[index] + edges[index + 1]) / 2 for index in filled]

    figure = Figure(figsize=(7, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.errorbar(
        centres, values, yerr=errors, xerr=[width / 2 for width in widths], fmt="o", markersize=3.5, color="black",
        linewidth=1, label="Pythia 8.317, Monash 2013 (stat. errors)",
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(r"leading jet $p_\mathrm{T}$ [GeV]", loc="right")
    axes.set_ylabel(r"$\mathrm{d}\sigma/\mathrm{d}p_\mathrm{T}$ [pb/GeV]", loc="top")
    axes.tick_params(which="both", direction="in", top=True, right=True)
    axes.minorticks_on()
    axes.legend(frameon=False, loc="upper right")
    axes.text(
        0.96, 0.84,
        "\n".join(
            (
                r"$pp$, $\sqrt{s}=13$ TeV, hard QCD, $\hat{p}_\mathrm{T}>100$ GeV",
                r"anti-$k_t$ $R=0.4$, $|y|<4.5$",
                f"{histogram.events} events in {jobs} jobs",
                rf"$\sigma = {histogram.sigma_pb / 1e6:.3f} \pm {histogram.sigma_error_pb / 1e6:.3f}$ $\mu$b",
            )
        ),
        transform=axes.transAxes, ha="right", va="top", fontsize=9, linespacing=1.5,
    )  # fmt: skip
    figure.savefig(place, dpi=150)
