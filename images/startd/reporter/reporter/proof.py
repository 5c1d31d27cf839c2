"""Whether a startd has had a real payload, so that the site is good and there is work."""

from collections.abc import Iterable

from reporter import jobs
from reporter.jobs import Job
from reporter.outcome import FIZZLE_SECONDS


def proven(ended: Iterable[Job], longest_seconds: float, outputs: Iterable[str]) -> bool:
    """Whether anything shows it. A claim does not: a pilot comes before it knows whether there is a payload for it.

    Args:
        ended: the jobs that have.
        longest_seconds: that one of those has run which still do; no pilot waits so long for its first payload.
        outputs: what those have printed; only looked at if the rest shows nothing.
    """
    return (
        any(job.ok for job in ended)
        or longest_seconds > FIZZLE_SECONDS
        or any(jobs.payloads(output) for output in outputs)
    )
