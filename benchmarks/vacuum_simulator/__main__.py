"""Plays scenarios with every controller, prints a table of each, writes JSON and plots to benchmarks/results/."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.vacuum_simulator.plot import draw
from benchmarks.vacuum_simulator.report import table
from benchmarks.vacuum_simulator.run import play_all
from benchmarks.vacuum_simulator.scenarios import SCENARIOS, size

RESULTS = Path(__file__).resolve().parent.parent / "results"


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser(prog="benchmarks.vacuum_simulator", description=__doc__)
    parser.add_argument("--scale", type=int, default=1, help="divides the site of 1,000 slots; 50 is CI's")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--no-plots", action="store_true", help="tables and JSON only")
    parser.add_argument("scenario", nargs="*", help=f"one of {', '.join(known)}; all without a name")
    options = parser.parse_args(words)
    if unknown := [name for name in options.scenario if name not in known]:
        parser.error(f"there is no scenario {unknown[0]}; there are {', '.join(known)}")
    if options.scale < 1:
        parser.error(f"--scale is {options.scale}: write a whole number from 1 on")
    RESULTS.mkdir(exist_ok=True)
    results: dict[str, object] = {}
    for scenario in (known[name] for name in options.scenario or known):
        began = time.process_time()
        rows = list(play_all(scenario, scale=options.scale, seed=options.seed))
        sys.stdout.write(f"{table(scenario, rows)}\n\n")
        sys.stdout.flush()
        results[scenario.name] = {
            "about": scenario.about,
            "cpuSeconds": round(time.process_time() - began, 1),
            "rows": [row.as_json() for row in rows],
        }
        if not options.no_plots:
            draw(scenario, rows, RESULTS / f"vacuum-{scenario.name}.png")
    whole = {"slots": size(options.scale).slots, "seed": options.seed, "scenarios": results}
    (RESULTS / "vacuum-simulator.json").write_text(json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    main()
