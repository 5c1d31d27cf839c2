"""How fast stage-out is beside what it is made of: plain rclone, and plain HTTP, of the same files to the same server.

    .venv/bin/python -m benchmarks.stage_out [--rounds 5]

The server is Azurite on loopback by TLS, on the same cores, so that ratios tell more than MiB a second. Each round has
each way once, in turn, to a directory of its own; what arrived is counted. Plain rclone has its own defaults, and curl
sends each file in one piece, four at once as rclone does. Prints a table and writes JSON to benchmarks/results/.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local import tools
from local.paths import CHECKOUT
from local.progress import Progress
from tests.storage import azurite
from tests.storage.azurite import Azurite
from tests.storage.calling import PROGRAM, SOURCES

RESULTS = Path(__file__).resolve().parent / "results/stage_out.json"
MIB = 2**20
# An output of a simulation with its log and metadata; what a payload has that writes many small files.
SETS: Mapping[str, list[int]] = {"1 of 512 MiB": [512 * MIB], "200 of 1 MiB": [MIB] * 200}
AT_ONCE = 4
SECONDS = 900.0

Way = Callable[[str, Path], None]


class Ways:
    """What brings all files of a directory into one of the container."""

    def __init__(self, server: Azurite, rclone: Path, offered: Path) -> None:
        self._server, self._rclone, self._offered = server, rclone, offered
        self._sas = server.sas("rcwl", hours=12)
        (offered / "container").write_text(server.url)
        (offered / "sas").write_text(self._sas)

    def stage_out(self, directory: str, files: Path) -> None:
        """Ours: looks, copies, looks again."""
        asked: list[str | Path] = [directory, *sorted(files.iterdir())]
        self._run([sys.executable, "-B", "-c", PROGRAM, self._offered, self._rclone, *asked], PYTHONPATH=str(SOURCES))

    def rclone_copy(self, directory: str, files: Path) -> None:
        """Plain rclone."""
        self._run(
            [self._rclone, "--config=", "copy", files, f"out:{azurite.CONTAINER}/{directory}"],
            RCLONE_CONFIG_OUT_TYPE="azureblob",
            RCLONE_CONFIG_OUT_SAS_URL=f"{self._server.url}?{self._sas}",
        )

    def http_put(self, directory: str, files: Path) -> None:
        """One request a file, which nobody checks."""
        asked = "next\n".join(
            f'upload-file = "{file}"\nurl = "{self._server.url}/{directory}/{file.name}?{self._sas}"\n'
            f'header = "x-ms-blob-type: BlockBlob"\ncacert = "{self._server.authority}"\n'
            "fail\nsilent\noutput = /dev/null\n"
            for file in sorted(files.iterdir())
        )
        self._run(["curl", "--parallel", "--parallel-max", str(AT_ONCE), "--config", "-"], asked)

    def _run(self, words: list[str | Path], stdin: str = "", **more: str) -> None:
        environment = {**os.environ, "SSL_CERT_FILE": str(self._server.authority), **more}
        subprocess.run(
            [str(word) for word in words],
            input=stdin,
            env=environment,
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
            text=True,
            timeout=SECONDS,
            check=True,
        )


@contextmanager
def running() -> Iterator[tuple[Azurite, Path]]:
    """The server, and a directory beside it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        server = Azurite(azurite.ensure(directory / "npm.log"), directory)
        try:
            yield server, directory
        finally:
            server.stop()


def measured(way: Way, directory: str, files: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU of what was started; the server's are not among them."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    way(directory, files)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Runs all and tells of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rclone = tools.ensure(Progress(total=0), ("rclone",)) / "rclone"
    told = []
    with running() as (server, place):
        (place / "offered").mkdir()
        ways = Ways(server, rclone, place / "offered")
        contest: Mapping[str, Way] = {
            "stage-out": ways.stage_out,
            "rclone copy": ways.rclone_copy,
            "HTTP PUT": ways.http_put,
        }
        for label, sizes in SETS.items():
            files = place / label.replace(" ", "-")
            files.mkdir()
            for index, size in enumerate(sizes):
                (files / f"file-{index:03}").write_bytes(os.urandom(size))
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contest}
            for number in range(rounds):
                for name, way in contest.items():
                    directory = f"{files.name}/{name.replace(' ', '-')}/{number}"
                    taken[name].append(measured(way, directory, files))
                    arrived = [each for each in server.names() if each.startswith(f"{directory}/")]
                    assert len(arrived) == len(sizes), f"{name}: {len(arrived)} of {len(sizes)} files arrived"
            peer = statistics.median(seconds for seconds, _ in taken["rclone copy"])
            for name, pairs in taken.items():
                seconds = statistics.median(each for each, _ in pairs)
                told.append(
                    {
                        "files": label,
                        "way": name,
                        "seconds": round(seconds, 2),
                        "mibPerSecond": round(sum(sizes) / MIB / seconds, 1),
                        "ofRclone": round(seconds / peer, 2),
                        "cpuSeconds": round(statistics.median(cpu for _, cpu in pairs), 2),
                        "rounds": [round(each, 2) for each, _ in pairs],
                    }
                )
    print("| files | way | s | MiB/s | time, of rclone's | its CPU s |\n|---|---|---|---|---|---|")
    for row in told:
        print("| {files} | {way} | {seconds} | {mibPerSecond} | {ofRclone} | {cpuSeconds} |".format_map(row))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"rounds": rounds, "rows": told}, indent=2) + "\n")


if __name__ == "__main__":
    main()
