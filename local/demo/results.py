"""What the jobs brought back: checked, added up exactly, and listed."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.refusal import Refusal

PB_PER_MB = 1e9


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """The leading jet's pT.

    Attributes:
        edges: n + 1 numbers in GeV; a bin holds its lower edge.
        counts: events in the n bins.
        outside: events whose leading jet lies below or above all bins, or that have none.
        sigma_pb, sigma_error_pb: cross section of all events together.
    """

    edges: tuple[int, ...]
    counts: tuple[int, ...]
    outside: int
    sigma_pb: float
    sigma_error_pb: float

    @property
    def events(self) -> int:
        """All that were generated."""
        return sum(self.counts) + self.outside


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job, as the pool's own history has it; `exit_code` is None if it did not end by itself."""

    number: int
    site: str
    pod: str
    exit_code: int | None
    seconds: float


def merge(texts: Mapping[int, str], jobs: int, events: int) -> Histogram:
    """Adds up the results of jobs 1 … `jobs`, by the text that each wrote.

    Counts are integers, so the order of the jobs does not matter; the cross section is the mean over jobs, which all
    have the same number of events.

    Raises:
        Refusal: a result is missing, cannot be read, or does not say what that job was asked for.
    """
    missing = [number for number in range(1, jobs + 1) if number not in texts]
    if missing:
        raise Refusal(f"demonstration: no result of job {_listed(missing)}; look at its error file and run it again")
    parts = [_read(number, texts[number], events) for number in range(1, jobs + 1)]
    edges = parts[0].edges
    for number, part in enumerate(parts, start=1):
        if part.edges != edges:
            raise Refusal(
                f"demonstration: the result of job {number} has other bins than that of job 1; run both again"
            )
    return Histogram(
        edges=edges,
        counts=tuple(sum(column) for column in zip(*(part.counts for part in parts), strict=True)),
        outside=sum(part.outside for part in parts),
        sigma_pb=math.fsum(part.sigma_pb for part in parts) / jobs,
        sigma_error_pb=math.sqrt(math.fsum(part.sigma_error_pb**2 for part in parts)) / jobs,
    )


def _read(number: int, text: str, events: int) -> Histogram:
    try:
        said: dict[str, Any] = json.loads(text)
        part = Histogram(
            edges=tuple(said["edgesGeV"]),
            counts=tuple(said["counts"]),
            outside=said["below"] + said["above"] + said["without"],
            sigma_pb=float(said["sigmaMb"]) * PB_PER_MB,
            sigma_error_pb=float(said["sigmaErrorMb"]) * PB_PER_MB,
        )
        seed = said["seed"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"demonstration: the result of job {number} cannot be read ({error}); run it again") from None
    if seed != number:
        raise Refusal(f"demonstration: the result of job {number} has seed {seed}; run it again")
    if any(not isinstance(count, int) or count < 0 for count in (*part.counts, part.outside)):
        raise Refusal(f"demonstration: the result of job {number} has counts that no counting gives; run it again")
    if len(part.edges) != len(part.counts) + 1 or part.events != events:
        raise Refusal(
            f"demonstration: the result of job {number} accounts for {part.events} events of {events}; run it again"
        )
    return part


def jobs_of(history: Sequence[Mapping[str, Any]]) -> list[Job]:
    """The jobs of one batch, by number, from the ads of condor_history; job 1 is process 0."""
    return sorted(
        (
            Job(
                number=int(ad["ProcId"]) + 1,
                site=str(ad.get("MachineAttrATLAS_SITE0", "unknown")),
                pod=_pod(str(ad.get("LastRemoteHost", "unknown"))),
                exit_code=int(ad["ExitCode"]) if "ExitCode" in ad else None,
                seconds=float(ad.get("RemoteWallClockTime", 0.0)),
            )
            for ad in history
        ),
        key=lambda job: job.number,
    )


def _pod(host: str) -> str:
    """The pod in `slot1_1@pod.domain` or `slot1_1@name@pod`: its host name is the pod's name."""
    return host.rpartition("@")[2].partition(".")[0]


def table(jobs: Sequence[Job]) -> str:
    """One line a job, in columns."""
    rows = [("job", "site", "startd pod", "exit code", "seconds")] + [
        (
            str(job.number),
            job.site,
            job.pod,
            "none" if job.exit_code is None else str(job.exit_code),
            f"{job.seconds:.1f}",
        )
        for job in jobs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = (True, False, False, True, True)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
