"""What was used: calls by the API server's own metrics, processor time and memory by the kernel's."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx

CALLS = re.compile(r'^apiserver_flowcontrol_dispatched_requests_total\{flow_schema="([^"]+)".*\} (\S+)$', re.MULTILINE)
WRITES = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """At one time.

    Attributes:
        calls: by flow, which is who made them.
        writes: by verb and what was written, as in `PATCH pods/status`, by anybody.
        cpu: seconds that the subject has used.
        machine: seconds that have been used by what is none of this benchmark's, on all cores.
        rss, peak: bytes that it holds, and has held at most.
    """

    calls: Counter[str]
    writes: Counter[str]
    cpu: float
    machine: float
    rss: int
    peak: int


def counts(client: httpx.Client, pid: int, ours: Iterable[int]) -> Counts:
    """As of now.

    Args:
        client: of the benchmark.
        pid: of the subject.
        ours: all processes of the benchmark but this one.
    """
    text = client.get("/metrics").text
    calls: Counter[str] = Counter()
    for flow, number in CALLS.findall(text):
        calls[flow] += round(float(number))
    writes: Counter[str] = Counter()
    for inner, number in WRITES.findall(text):
        labels = dict(LABEL.findall(inner))
        if labels["verb"] in {"POST", "PUT", "PATCH", "DELETE", "APPLY"}:
            what = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            writes[f"{labels['verb']} {what}"] += round(float(number))
    status = Path(f"/proc/{pid}/status").read_text()
    return Counts(
        calls=calls,
        writes=writes,
        cpu=_seconds(pid),
        machine=_busy() - sum(map(_seconds, {os.getpid(), *ours})),
        rss=_kibibytes(status, "VmRSS"),
        peak=_kibibytes(status, "VmHWM"),
    )


def _seconds(pid: int) -> float:
    # After the name, which may hold blanks: state is the first of these fields, utime and stime the 12th and 13th.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _busy() -> float:
    """Of all cores together: all but idle and waiting for disks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


def _kibibytes(status: str, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0
