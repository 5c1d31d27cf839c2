"""The demonstration: a batch of Monte Carlo jobs sent to the site through its pool, and one figure of it all."""

import io
import json
import tarfile
import time
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import commands
from local.demo.plot import draw
from local.demo.results import Histogram, Job, jobs_of, merge, table
from local.paths import state_dir
from local.progress import Progress
from local.refusal import Refusal
from local.repository import URL

POOL = ("--namespace=pool", "deployment/cm")
SITE = "dev"
JOBS = 20
EVENTS = 500  # 5 to 10 s of a slow core
CARD = f"{URL}/inputs/dijets.cmnd"
PAYLOAD = Path(__file__).with_name("payload.py")

BATCH_SECONDS = 1200.0
LOOK_EVERY_SECONDS = 5.0
ASK_SECONDS = 60.0
ATTRIBUTES = "ProcId,ExitCode,LastRemoteHost,RemoteWallClockTime,MachineAttrATLAS_SITE0,JobStatus,HoldReason"
RUNNING, HELD = 2, 5  # HTCondor's JobStatus


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What came of a batch.

    Attributes:
        cluster: the number that the pool gave to the batch.
        jobs: by number, from the pool's history.
        histogram: all jobs' together.
        figure: a PNG file.
    """

    cluster: int
    jobs: tuple[Job, ...]
    histogram: Histogram
    figure: Path


def run(kubeconfig: Path, progress: Progress, jobs: int = JOBS) -> DemoResult:
    """Submits the batch, waits for it, and prints the table of its jobs.

    Raises:
        Refusal: the pool does not answer, a job is held or failed, or the batch does not end in time.
    """
    with progress.step("submit", f"{jobs} jobs of {EVENTS} events each"):
        directory, cluster = _submit(kubeconfig, jobs)
    with progress.step("jobs", f"batch {cluster} runs on the site"):
        ended = _wait(kubeconfig, cluster, jobs, progress)
    with progress.step("result", "merged, drawn and listed"):
        print(table(ended))
        failed = [job.number for job in ended if job.exit_code != 0]
        if failed:
            raise Refusal(
                f"demonstration: job {', '.join(map(str, failed))} of batch {cluster} failed; "
                f"what they said is in {directory} of the pod of the pool's {POOL[1]}"
            )
        histogram = merge(_fetch(kubeconfig, directory), jobs, EVENTS)
        place = state_dir() / "demo"
        place.mkdir(parents=True, exist_ok=True)
        figure = place / "leading-jet-pt.png"
        draw(histogram, jobs, figure)
        print(f"\n{histogram.events} events; the figure is {figure}")
    return DemoResult(cluster=cluster, jobs=tuple(ended), histogram=histogram, figure=figure)


def submission(jobs: int) -> str:
    """The submit description; process p runs with seed p + 1, and on this site alone, for it has the software."""
    return f"""\
executable = payload.py
arguments = "$INT(Number) {EVENTS} {CARD}"
Number = $(Process) + 1
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
transfer_output_files = histogram.json
transfer_output_remaps = "histogram.json=histogram.$(Process).json"
error = error.$(Process).txt
output = output.$(Process).txt
log = batch.log
job_machine_attrs = ATLAS_SITE
requirements = SiteName == "{SITE}"
request_cpus = 1
request_memory = 400
request_disk = 100MB
batch_name = demonstration
queue {jobs}
"""


def _submit(kubeconfig: Path, jobs: int) -> tuple[str, int]:
    """Puts the payload into a new directory beside the schedd and submits; the directory and the batch's number."""
    payload = "#!/usr/bin/python3\n" + PAYLOAD.read_text()
    script = "\n".join(
        (
            "set -e",
            "cd $(mktemp -d)",
            f"echo {b64encode(payload.encode()).decode()} | base64 -d > payload.py",
            "chmod +x payload.py",
            f"echo {b64encode(submission(jobs).encode()).decode()} | base64 -d > batch.sub",
            "pwd",
            "condor_submit -terse batch.sub",
        )
    )
    directory, answer = _in_pool(kubeconfig, "sh", "-s", stdin=script).split("\n", 1)
    return directory, int(answer.split(".")[0])


def _wait(kubeconfig: Path, cluster: int, jobs: int, progress: Progress) -> list[Job]:
    """Waits until all jobs of the batch are in the pool's history.

    Raises:
        Refusal: a job is held, or time is up.
    """
    deadline, told = time.monotonic() + BATCH_SECONDS, ""
    while True:
        ended = _ads(kubeconfig, "condor_history", cluster)
        if len(ended) >= jobs:
            return jobs_of(ended)
        queued = _ads(kubeconfig, "condor_q", cluster)
        held = [ad for ad in queued if ad.get("JobStatus") == HELD]
        if held:
            raise Refusal(
                f"demonstration: job {held[0]['ProcId'] + 1} is held ({held[0].get('HoldReason', 'no reason given')}); "
                "mend that, then run it again"
            )
        running = sum(ad.get("JobStatus") == RUNNING for ad in queued)
        line = f"{len(ended)} done, {running} running, {jobs - len(ended) - running} waiting"
        if line != told:
            progress.note(line)
            told = line
        if time.monotonic() > deadline:
            raise Refusal(
                f"demonstration: after {BATCH_SECONDS:.0f} s {line}; `make status` shows what the site waits for"
            )
        time.sleep(LOOK_EVERY_SECONDS)


def _ads(kubeconfig: Path, program: str, cluster: int) -> list[dict[str, Any]]:
    text = _in_pool(kubeconfig, program, str(cluster), "-json", "-attributes", ATTRIBUTES)
    ads: list[dict[str, Any]] = json.loads(text) if text.strip() else []
    return ads


def _fetch(kubeconfig: Path, directory: str) -> dict[int, str]:
    """The results that lie beside the schedd, by job number."""
    packed = _in_pool(kubeconfig, "sh", "-c", f"cd {directory} && tar -c histogram.*.json | base64")
    with tarfile.open(fileobj=io.BytesIO(b64decode(packed))) as archive:
        return {
            int(member.name.split(".")[1]) + 1: file.read().decode()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }


def _in_pool(kubeconfig: Path, *command: str, stdin: str | None = None) -> str:
    words: Sequence[str] = ("kubectl", f"--kubeconfig={kubeconfig}", "exec", *(["-i"] if stdin else []), *POOL)
    return commands.output(
        [*words, "--", *command], what=f"demonstration: {command[0]} in the pool", seconds=ASK_SECONDS, stdin=stdin
    )
