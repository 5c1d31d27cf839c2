"""How long a preview takes and what it needs, for one site and for worlds of many, against stand-ins for the clouds.

    .venv/bin/python benchmarks/preview.py [--sites 1 10 50] [--kinds azure gcp aws]

The engine, the language host and the program are the real ones; providers of clouds and of Kubernetes are stand-ins in
this process, so that neither a cloud's answers nor its providers' memory count. Prints two tables and writes JSON to
benchmarks/results/. Each world is previewed three times; the fastest counts, for machines are shared.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))  # run as a file: the checkout is not a distribution

from local import tools  # noqa: E402  needs the path above
from local.engine import Engine  # noqa: E402
from local.progress import Progress  # noqa: E402
from local.tools import PROVIDER  # noqa: E402
from tests.clouds import schema  # noqa: E402
from tests.clouds.provider import Cloud, Kubernetes, served  # noqa: E402
from tests.engine.projects import Project  # noqa: E402
from tests.engine.stacks import Stack, cloud_site  # noqa: E402

RESULTS = CHECKOUT / "benchmarks/results/preview.json"
ATTEMPTS = 3
KIND = ("azure", "gcp", "aws")
MODULES = {kind: f"components.cluster.{kind}" for kind in KIND}
OWN = ("settings", "clusters", "sites", "outputs", "registering", "mistakes", "components")
SDKS = ("pulumi_azure_native", "pulumi_gcp", "pulumi_aws")
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The fastest preview of a world of so many sites, and the most memory of all attempts, of all its processes.

    Attributes:
        cpu_seconds: of the engine and all that it starts, on average.
        stand_ins_cpu_seconds: of this process, on average; real providers are programs in Go, beside the engine.
    """

    sites: int
    seconds: float
    rss_mib: int
    cpu_seconds: float
    stand_ins_cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Imports:
    """Milliseconds that importing takes, by whose code it is."""

    kind: str
    own: int
    cloud_sdk: int
    others: int


class Memory:
    """The most resident memory of a process and all that descend from it, in MiB; shared pages count for each."""

    def __init__(self, process: int) -> None:
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(process,))

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self, process: int) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.most = max(self.most, sum(_resident_kib(one) for one in _family(process)) // 1024)


def _family(process: int) -> Iterator[int]:
    yield process
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # it ended meanwhile
            continue
        for child in children:
            yield from _family(int(child))


def _resident_kib(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


@contextmanager
def stack() -> Iterator[Stack]:
    """An empty stack in a directory to be thrown away."""
    binaries = tools.ensure(Progress(total=0), ("pulumi",))
    program = tools.pulumi_home() / "plugins" / f"resource-kubernetes-v{tools.pins()[PROVIDER]}" / PROVIDER
    kubernetes = Kubernetes(program)
    with tempfile.TemporaryDirectory() as directory, kubernetes.running:
        os.environ["XDG_STATE_HOME"] = f"{directory}/state"
        (Path(directory) / "project").mkdir()
        made = Stack(project=Project(engine=Engine(binaries, project=Path(directory) / "project")))
        made.project.engine.prepare("dev")
        with served({**{package: Cloud(package) for package in schema.SDKS}, "kubernetes": kubernetes}) as places:
            os.environ["PULUMI_DEBUG_PROVIDERS"] = places
            yield made


def preview(made: Stack, sites: int, kinds: Sequence[str]) -> Preview:
    """Previews a world of so many sites, of each kind as many."""
    made.of([cloud_site(kinds[index % len(kinds)], name=f"site-{index}") for index in range(sites)])
    fastest, most = float("inf"), 0
    before = _cpu_seconds()
    for _ in range(ATTEMPTS):
        began = time.monotonic()
        process = made.project.start("preview")
        with Memory(process.pid) as memory:
            output, _ = process.communicate()
        fastest, most = min(fastest, time.monotonic() - began), max(most, memory.most)
        if process.returncode != 0:
            sys.exit(output)
    cpu, stand_ins = (round((now - then) / ATTEMPTS, 1) for now, then in zip(_cpu_seconds(), before, strict=True))
    return Preview(
        sites=sites, seconds=round(fastest, 1), rss_mib=most, cpu_seconds=cpu, stand_ins_cpu_seconds=stand_ins
    )


def _cpu_seconds() -> tuple[float, float]:
    """Of all that this process started and that ended, and of its own."""
    children, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    return children.ru_utime + children.ru_stime, own.ru_utime + own.ru_stime


def imports(kind: str) -> Imports:
    """What Python itself tells of each module's import, without those that it imports."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {', '.join((*OWN, MODULES[kind]))}"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    spent: Counter[str] = Counter()
    for line in told.splitlines()[1:]:
        own, _, module = line.removeprefix("import time:").split("|")
        package = module.strip().split(".")[0]
        spent["own" if package in OWN else "cloud_sdk" if package in SDKS else "others"] += int(own)
    return Imports(kind=kind, **{name: spent[name] // 1000 for name in ("own", "cloud_sdk", "others")})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--kinds", nargs="+", choices=KIND, default=KIND)
    options = parser.parse_args()
    # A line as soon as it is measured: a large world takes minutes.
    sys.stdout.write("| sites | preview, s | s a site | memory, MiB | CPU s | CPU s of the stand-ins |\n")
    sys.stdout.write("|---|---|---|---|---|---|\n")
    previews = []
    with stack() as made:
        for sites in options.sites:
            previews.append(one := preview(made, sites, options.kinds))
            figures = (one.sites, one.seconds, round(one.seconds / sites, 2), one.rss_mib)
            sys.stdout.write(f"| {' | '.join(map(str, (*figures, one.cpu_seconds, one.stand_ins_cpu_seconds)))} |\n")
            sys.stdout.flush()
    imported = [imports(kind) for kind in options.kinds]
    sys.stdout.write("\n| imports, ms | own | the cloud's SDK | others |\n|---|---|---|---|\n")
    for row in imported:
        sys.stdout.write(f"| {row.kind} | {row.own} | {row.cloud_sdk} | {row.others} |\n")
    RESULTS.parent.mkdir(exist_ok=True)
    result = {
        "load": os.getloadavg()[0],
        "cores": os.cpu_count(),
        "previews": [asdict(one) for one in previews],
        "imports": [asdict(row) for row in imported],
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
