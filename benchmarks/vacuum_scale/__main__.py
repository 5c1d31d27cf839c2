"""Measures the vacuum controller at up to 10,000 startds beside others; prints tables, writes JSON to results/.

Every subject has a control plane of its own, of the same programs: nothing of the one before is left in it. In the
column `equal` all work at the same pace (calls a second as good as unbounded, so many workers), our window and the
scheduler's pace included; in the column `default` each has what it is installed with.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.vacuum_scale.observer import Observer
from benchmarks.vacuum_scale.plane import Pace, plane
from benchmarks.vacuum_scale.programs import programs
from benchmarks.vacuum_scale.report import HEAD, line
from benchmarks.vacuum_scale.run import Plan, Play, Step, nodes
from benchmarks.vacuum_scale.subjects import subjects
from services.vacuum.act import AT_ONCE

RESULTS = Path(__file__).resolve().parent.parent / "results"
LOOPS = ("bare create loop", "poll loop as prp's")
NAMES = ("bare create loop", "vacuum", "Job", "ReplicaSet", "poll loop as prp's")
QPS = 10_000.0
# The first step is that of the replacement's wanted figure.
STEPS = (1_000, 5_000, 10_000)


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.vacuum_scale", description=__doc__)
    parser.add_argument("--pods", type=int, nargs="+", default=STEPS, help="the steps; 200 is a probe")
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--column", choices=["equal", "default"], nargs="+", default=["equal", "default"])
    parser.add_argument("--default-pods", type=int, default=1_000, help="no step above in the column default")
    parser.add_argument("--peer-pods", type=int, default=10_000, help="no step above for others than ours")
    parser.add_argument("--rest-seconds", type=float, default=30)
    parser.add_argument("--ends", type=int, default=300, help="pods that end at each step, ten a second")
    parser.add_argument("--patience", type=float, default=300, help="seconds within which a step must be reached")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="for etcd's data")
    parser.add_argument("subject", nargs="*", help=f"one of {', '.join(NAMES)}; all without a name")
    options = parser.parse_args(words)
    if unknown := [name for name in options.subject if name not in NAMES]:
        parser.error(f"there is no subject {unknown[0]!r}; there are {', '.join(NAMES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever ends it wants its processes ended too
    rows: list[dict[str, object]] = []
    sys.stdout.write(f"{HEAD}\n")
    for column in options.column:
        pace = Pace(qps=QPS, burst=int(2 * QPS), workers=AT_ONCE) if column == "equal" else None
        for name in options.subject or NAMES:
            if pace is None and name in LOOPS:
                continue  # they have no pace of their own
            most = [max(options.pods)]
            most += [options.peer_pods] if name != "vacuum" else []
            most += [options.default_pods] if pace is None else []
            plan = Plan(
                steps=[pods for pods in options.pods if pods <= min(most)],
                nodes=options.nodes,
                rest_seconds=options.rest_seconds,
                ends=options.ends,
                ends_per_second=10,
                patience=options.patience,
            )
            rows += _play(name, column, pace, plan, options.directory)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "vacuum-scale.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def _play(name: str, column: str, pace: Pace | None, plan: Plan, parent: Path) -> list[dict[str, object]]:
    home = Path(tempfile.mkdtemp(prefix="vacuum-scale-", dir=parent))
    rows: list[dict[str, object]] = []
    try:
        with plane(home / "plane", programs(), pace) as made, made.client() as client:
            nodes(client, plan.nodes)
            observer = Observer(made)
            observer.begin()
            subject = subjects(made, client, pace, max(plan.steps), AT_ONCE)[name]
            subject.start()
            time.sleep(1.0)

            def tell(step: Step) -> None:
                sys.stdout.write(f"{line(name, column, step)}\n")
                sys.stdout.flush()

            play = Play(subject=subject, client=client, observer=observer, plan=plan)
            steps, restart = play.play(tell)
            rows = [{"subject": name, "column": column, **asdict(step)} for step in steps]
            if restart is not None:
                rows[-1]["restart"] = asdict(restart)
                sys.stdout.write(f"  restart at {steps[-1].pods} pods: {asdict(restart)}\n")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return rows


if __name__ == "__main__":
    main()
