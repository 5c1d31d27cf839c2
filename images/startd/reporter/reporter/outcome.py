"""What became of a startd, told from what was seen in its pod; a table, the first row that matches wins."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reporter.codes import Code
from reporter.jobs import Job
from reporter.leaving import Why
from reporter.pool import Refusal

# What a pilot means by its exit code (pilot3 and its wrapper). 0 is a success, or an empty pilot.
PILOT: Mapping[int, Code] = {
    78: Code.BANNED,
    82: Code.NO_WORK,
    **dict.fromkeys((64, 66, 67, 69, 73, 75), Code.SITE_FAULT),
    **dict.fromkeys((68, 71, 72, 74, 76, 79, 80), Code.GRID_FAULT),
    **dict.fromkeys((81, 143), Code.ASKED),
    **dict.fromkeys((2, 65, 70, 137), Code.TRANSIENT),
}
# Any other failure of a job that ran so short is the site's: a program that works elsewhere cannot even begin here.
FIZZLE_SECONDS = 600.0
# A startd leaves after so many of these in a row, or it would go through a whole queue within minutes. One may be the
# job's own fault, and so may a second one of the same user's; a third costs a good site at most a new startd.
FIZZLES = 3


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was seen.

    Attributes:
        why: it left, unless HTCondor ended by itself.
        ended: condor_master's exit code, or the negative number of the signal that ended it.
        known: the pool has shown us this startd, or somebody of it has claimed it.
        refusal: why the pool does not know it, as far as anything says so.
        claims, started: of its slots, and jobs begun.
        jobs: those that were run and have ended.
        waited_seconds: for the pool to know it, or for a claim.
    """

    why: Why | None
    ended: int
    known: bool
    refusal: Refusal | None
    claims: int
    started: int
    jobs: tuple[Job, ...]
    waited_seconds: float

    @property
    def asked(self) -> bool:
        """It left for what has nothing to do with site, pool or jobs."""
        return self.why is not None and self.why.asked

    @property
    def worked(self) -> int:
        """How many jobs did what they came for."""
        return sum(job.ok for job in self.jobs)

    @property
    def failed(self) -> tuple[Job, ...]:
        """Jobs that ended by themselves and did not."""
        return tuple(job for job in self.jobs if job.exit_code is not None and not job.ok)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The verdict: a code, a word for tables, a sentence for people."""

    code: Code
    reason: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """If `matches`, the outcome is `what`."""

    matches: Callable[[Evidence], bool]
    what: Callable[[Evidence], Outcome]


def _row(matches: Callable[[Evidence], bool], code: Code, reason: str, sentence: Callable[[Evidence], str]) -> Row:
    return Row(matches=matches, what=lambda seen: Outcome(code=code, reason=reason, sentence=sentence(seen)))


TABLE: tuple[Row, ...] = (
    # HTCondor's master itself failed; whatever ran before, this is what the pod ended of.
    _row(
        lambda e: e.ended < 0 and not e.asked,
        Code.TRANSIENT,
        "MasterDied",
        lambda e: f"condor_master was ended by signal {-e.ended}",
    ),
    _row(
        lambda e: e.ended > 0 and not e.asked and not e.known,
        Code.SITE_FAULT,
        "MasterFailed",
        lambda e: f"condor_master ended with exit code {e.ended} before the pool knew the startd",
    ),
    _row(
        lambda e: e.ended > 0 and not e.asked,
        Code.TRANSIENT,
        "MasterDied",
        lambda e: f"condor_master ended with exit code {e.ended}",
    ),
    # It went through jobs without running them: whatever went well before, here it does not now.
    Row(matches=lambda e: e.why is Why.JOBS_FAIL, what=lambda e: of_failures(tuple(filter(_fizzled, e.failed)))),
    # What jobs it had. One that did well shows that the site is good and that there is work.
    _row(
        lambda e: e.worked > 0,
        Code.WORKED,
        "Worked",
        lambda e: f"worked: {e.worked} of {e.started} jobs did well" + (f", then {_why(e)}" if e.asked else ""),
    ),
    Row(matches=lambda e: bool(e.failed), what=lambda e: of_failures(e.failed)),
    _row(
        lambda e: e.asked,
        Code.ASKED,
        "Asked",
        lambda e: f"{_why(e)} before a job " + ("ended" if e.started else "came"),
    ),
    # It had none.
    Row(
        matches=lambda e: not e.known and e.refusal is not None,
        what=lambda e: _refused(e.refusal),
    ),
    _row(
        lambda e: not e.known,
        Code.GRID_FAULT,
        "PoolSilent",
        lambda e: f"the pool does not show the startd after {e.waited_seconds:.0f} s, and does not say why",
    ),
    _row(
        lambda e: e.claims == 0,
        Code.NO_WORK,
        "NeverClaimed",
        lambda e: f"nobody claimed the startd in {e.waited_seconds:.0f} s",
    ),
    _row(lambda e: e.started == 0, Code.NO_WORK, "NoJob", lambda e: f"{e.claims} claims, and no job came with them"),
    _row(
        lambda e: bool(e.jobs),
        Code.WORKED,
        "JobsTakenAway",
        lambda e: f"{e.started} jobs were begun, and all removed or held by the pool before they ended",
    ),
    _row(
        lambda _: True,
        Code.TRANSIENT,
        "JobsNotRun",
        lambda e: f"{e.started} jobs were begun, and none got so far as to run; see StarterLog",
    ),
)


def outcome(seen: Evidence) -> Outcome:
    """What became of a startd whose master has ended."""
    return next(row for row in TABLE if row.matches(seen)).what(seen)


def of_failures(failed: tuple[Job, ...]) -> Outcome:
    """What it means that all jobs failed: what most of them mean."""
    classes = Counter(_class_of(job) for job in failed)
    code = min(classes, key=lambda each: (-classes[each], each))
    if code is Code.NO_WORK and all(job.empty for job in failed):
        return Outcome(code=code, reason="EmptyPilots", sentence=f"{len(failed)} pilots found no payload")
    codes = Counter(job.exit_code for job in failed).most_common(5)
    listed = ", ".join(f"{number} with exit code {value}" for value, number in codes)
    return Outcome(code=code, reason="JobsFailed", sentence=f"{len(failed)} jobs failed, {listed}")


def jobs_fail(jobs: tuple[Job, ...]) -> bool:
    """Whether the last jobs all failed fast, so that the startd had better leave than run more.

    A job that did well, ran for long or found no payload breaks the row; one that was taken away is passed over.
    """
    last = [job for job in jobs if job.exit_code is not None][-FIZZLES:]
    return len(last) == FIZZLES and all(map(_fizzled, last))


def _fizzled(job: Job) -> bool:
    return not job.ok and job.seconds < FIZZLE_SECONDS and _class_of(job) >= Code.BANNED


def _why(seen: Evidence) -> str:
    return seen.why.value if seen.why is not None else ""


def _class_of(job: Job) -> Code:
    if job.empty:
        return Code.NO_WORK
    return PILOT.get(job.exit_code or 0, Code.SITE_FAULT if job.seconds < FIZZLE_SECONDS else Code.TRANSIENT)


def _refused(refusal: Refusal | None) -> Outcome:
    assert refusal is not None  # noqa: S101  the row says so
    return Outcome(code=refusal.code, reason=refusal.reason, sentence=refusal.sentence)
