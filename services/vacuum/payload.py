"""The payload loop: what startds have shown of work, and so how many may be made that have shown nothing yet.

A window bounds the startds that have not proven themselves: a proof opens it, a failure halves it, once a wave. A
circuit breaker ends a run of failures: no startd for a while, then one to find out. Pure.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.vacuum.evidence import FAILURES
from services.vacuum.model import Circuit, Class, Snapshot, Spec, Status

# Deaths without a reason are nobody's fault one by one; this share of the recent outcomes is somebody's.
DEATHS_SHARE = 0.8
DEATHS_SAMPLES = 10
# In a row without a proof between: so few may be chance.
FAILURES_MIN = 3
JITTER = 0.15
# Of the limit, that may be unproven at most unless the spec says how many: a thousand startds take seven waves.
WINDOW_SHARE = 0.25
# By how much longer than for want of work a set waits, at first and at most: what a person has to mend is not mended
# in ten minutes, and a pool that turns startds away should not be asked by every site every ten.
PATIENCE: Mapping[Class, tuple[float, float]] = {
    Class.NO_WORK: (1, 1),
    Class.SITE_FAULT: (1, 2),
    Class.TRANSIENT: (1, 2),
    Class.GRID_FAULT: (3, 3),
    Class.BANNED: (6, 6),
}
# A pool that says when to come again is believed, but not less than this and not beyond the cap.
RETRY_MIN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What one startd of the present template taught; `what` is Worked for a proof, also of one that still runs."""

    at: float
    sequence: int
    what: Class
    retry_after: float | None = None


def fresh(status: Status, spec: Spec) -> Status:
    """The status for a template of which nothing is known."""
    return replace(
        status,
        template=spec.template,
        window=min(spec.window_initial, widest(spec)),
        owed=0,
        cut=status.sequence,
        failures=0,
        circuit=Circuit.CLOSED,
        level=0,
        until=None,
    )


def learn(status: Status, spec: Spec, lesson: Lesson, now: float, seed: int) -> Status:
    """The status after a lesson: a proof opens the window, a failure halves it, failures in a row open the circuit."""
    if lesson.what is Class.WORKED:
        if status.circuit is not Circuit.CLOSED:
            window = min(spec.window_initial, widest(spec))
            return replace(status, circuit=Circuit.CLOSED, until=None, failures=0, window=window)
        window = min(widest(spec), status.window + spec.window_growth - 1)
        owed = max(0, status.owed - 1)
        return replace(status, window=window, owed=owed, failures=0, level=max(0, status.level - 1))

    of_this_wave = lesson.sequence > status.cut
    if status.circuit is not Circuit.CLOSED:
        # What was there before the circuit opened says nothing new; the probe does.
        failed = lesson.what in FAILURES or lesson.what is Class.TRANSIENT
        return _open(status, spec, lesson, now, seed) if of_this_wave and failed else status

    if lesson.what is Class.TRANSIENT:
        deaths = sum(result.what is Class.TRANSIENT for result in status.recent)
        many = len(status.recent) >= DEATHS_SAMPLES and deaths >= DEATHS_SHARE * len(status.recent)
        return _open(status, spec, lesson, now, seed) if of_this_wave and many else status

    if lesson.what not in FAILURES:
        return status
    last_one = status.window == 1
    status = replace(status, failures=status.failures + 1)
    if of_this_wave:
        status = replace(status, window=max(1, status.window // 2), owed=0, cut=status.sequence)
    if lesson.what is Class.BANNED or last_one or status.failures >= max(FAILURES_MIN, status.window):
        return _open(status, spec, lesson, now, seed)
    return status


def tick(snapshot: Snapshot, status: Status, now: float) -> Status:
    """The circuit's own course: to half-open when its time has come, or when somebody asks for it."""
    if snapshot.retry:
        status = replace(status, level=0)
    if status.circuit is Circuit.OPEN and (snapshot.retry or now >= (status.until or 0)):
        return replace(status, circuit=Circuit.HALF_OPEN, until=None)
    return status


def widest(spec: Spec) -> int:
    """The widest that the window may be: what is beyond the limits would only outlive the failures of whole waves."""
    limit = own_limit(spec)
    maximum = spec.window_maximum
    if maximum is None:
        # A small site is full after two waves, as it would be with any other rule.
        maximum = max(spec.window_initial * spec.window_growth, round(WINDOW_SHARE * limit))
    return max(1, min(maximum, limit))


def own_limit(spec: Spec) -> int:
    """How many startds the limits of the spec allow."""
    limits = [spec.pods]
    if spec.millicores is not None and spec.size.millicores:
        limits.append(spec.millicores // spec.size.millicores)
    if spec.memory_mib is not None and spec.size.memory_mib:
        limits.append(spec.memory_mib // spec.size.memory_mib)
    return min(limits)


def fault(status: Status) -> str:
    """What opened the circuit, by the last startd that failed."""
    last = next((result for result in status.recent if result.what in FAILURES or result.what is Class.TRANSIENT), None)
    if last is None or last.what is Class.NO_WORK:
        return "startds found no work"
    return f"startds failed, the last one by {last.what} ({last.reason})"


def clock(time: float | None) -> str:
    """A time as people read it."""
    return datetime.fromtimestamp(time or 0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _open(status: Status, spec: Spec, lesson: Lesson, now: float, seed: int) -> Status:
    first, most = PATIENCE[lesson.what]
    base, cap = first * spec.backoff_base, most * spec.backoff_cap
    # The level stops where the pause does: a site that was ill for days must not need as many proofs to be well.
    pause, level = base, 1
    while level <= status.level and pause < cap:
        pause, level = 2 * pause, level + 1
    if lesson.retry_after is not None:
        pause = max(RETRY_MIN_SECONDS, lesson.retry_after)
    spread = random.Random(f"{seed} {status.sequence} {level}").uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  so that sites do not probe in step
    if lesson.retry_after is not None:
        spread = max(1.0, spread)  # not before the pool said
    return replace(
        status,
        circuit=Circuit.OPEN,
        level=level,
        until=now + min(pause, cap) * spread,
        window=1,
        owed=0,
        cut=status.sequence,
        failures=0,
    )
