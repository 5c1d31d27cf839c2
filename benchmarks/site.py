"""How long the life of the site on this machine takes, and what it needs at its peak.

    .venv/bin/python benchmarks/site.py [--cold]

Takes the machine's dev site down and up again. With --cold the caches are empty too (an empty XDG_CACHE_HOME and Go
caches), so that everything is downloaded and built but what the machine has installed: .venv and Debian packages. There
is no peer in this table: the other ways to a Kubernetes node on one machine (kind, k3s, minikube) come as images or
downloads, which the registries used here do not hold.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))  # run as a file: the checkout is not a distribution

from local.target import Target  # noqa: E402  needs the path above

MIB = 1024 * 1024
JOB_SECONDS_LIMIT = 300


@dataclass
class Peak:
    """The most memory and disk in use on the machine above what was in use at the start, sampled each second."""

    memory_mib: int = 0
    disk_mib: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Peak":
        memory, disk = available_memory(), free_disk()

        def watch() -> None:
            while not self._stop.wait(1.0):
                self.memory_mib = max(self.memory_mib, (memory - available_memory()) // MIB)
                self.disk_mib = max(self.disk_mib, (disk - free_disk()) // MIB)

        self._thread = threading.Thread(target=watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def available_memory() -> int:
    """Bytes that the kernel could still give out."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert found
    return int(found[1]) * 1024


def free_disk() -> int:
    """Bytes free where the caches and the state lie."""
    return shutil.disk_usage(Path.home()).free


def seconds(command: str, environment: dict[str, str]) -> tuple[float, str]:
    """Wall seconds of a shell command and what it printed; ends the benchmark if it fails."""
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", command], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{command}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.monotonic() - started, done.stdout


def in_pool(kubeconfig: str, *command: str, stdin: str | None = None) -> str:
    """What a command in the pool's pod prints."""
    words = ["kubectl", f"--kubeconfig={kubeconfig}", "--namespace=pool", "exec", "-i", "deployment/cm", "--", *command]
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=True, timeout=60).stdout


def first_payload(kubeconfig: str) -> float:
    """Seconds from submitting a job to its start in a startd."""
    description = "executable = /bin/true\ntransfer_executable = false\nlog = /tmp/first.log\nqueue\n"
    started = time.time()
    cluster = in_pool(kubeconfig, "condor_submit", "-terse", "-", stdin=description).split(".")[0]
    while time.time() < started + JOB_SECONDS_LIMIT:
        told = in_pool(kubeconfig, "condor_history", cluster, "-af", "JobStartDate").split()
        if told:
            return max(0.0, float(told[0]) - started)
        time.sleep(1)
    sys.exit(f"no payload ran within {JOB_SECONDS_LIMIT} s")


def measure(environment: dict[str, str]) -> dict[str, float]:
    """The table's rows: what, and seconds or MiB."""
    rows: dict[str, float] = {}
    seconds("make -s down", environment)
    with Peak() as peak:
        rows["make up, s"], _ = seconds("make -s up", environment)
        rows["first payload after the site is up, s"] = first_payload(Target.recorded().kubeconfig)  # type: ignore[union-attr]  # up has just recorded it
        rows["make demo, s"], _ = seconds("make -s demo", environment)
    rows["second make up, s"], _ = seconds("make -s up", environment)
    rows["pulumi preview, s"], _ = seconds('eval "$(make -s env)" && pulumi preview --stack dev', environment)
    rows["pulumi up without a change, s"], printed = seconds(
        'eval "$(make -s env)" && pulumi up --stack dev --yes --skip-preview', environment
    )
    rows["changes in it"] = sum(
        int(count) for count in re.findall(r"(\d+) (?:created|updated|deleted|replaced)", printed)
    )
    rows["make down, s"], _ = seconds("make -s down", environment)
    rows["peak memory, MiB"] = peak.memory_mib
    rows["peak disk, MiB"] = peak.disk_mib
    return rows


def main() -> None:
    """Measures, prints the table and writes it as JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cold", action="store_true", help="begin with empty caches")
    cold = options.parse_args().cold
    environment = dict(os.environ)
    # Where the caches would lie: /tmp may be memory, and is not the disk that is measured.
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".atlas-sites-cold-") as empty:
        if cold:
            environment |= {
                "XDG_CACHE_HOME": f"{empty}/cache",
                "GOCACHE": f"{empty}/go-build",
                "GOMODCACHE": f"{empty}/go-mod",
                "GOFLAGS": "-modcacherw",
            }
        rows = measure(environment)
    for name, value in rows.items():
        print(f"{name:<42}{value:>10.1f}")
    results = CHECKOUT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    (results / ("site-cold.json" if cold else "site.json")).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
