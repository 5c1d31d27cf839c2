"""What became of a startd's slots, from the state changes in its log."""

import re
from dataclasses import dataclass, field
from datetime import datetime

CHANGE = re.compile(r"(\S+) (slot\S+): Changing (state and activity|state|activity): (\S+) -> (\S+)")
# A startd that was started anew has none of the slots that the last one had.
BEGIN = re.compile(r"\S+ \*\* condor_startd \(\S+\) STARTING UP")
RUNNING = frozenset({"Busy", "Retiring", "Suspended"})


@dataclass(kw_only=True)
class Slots:
    """All slots of one startd, as far as its log has been read; times are POSIX seconds.

    Attributes:
        claims: how often a schedd got the use of a slot.
        started: how many jobs were begun.
        first_claim: None as long as there was none.
    """

    claims: int = 0
    started: int = 0
    first_claim: float | None = None
    _busy_seconds: float = 0.0
    _state: dict[str, tuple[str, str]] = field(default_factory=dict)
    _running: dict[str, float] = field(default_factory=dict)
    _busy_since: float = 0.0

    @property
    def claimed(self) -> bool:
        """A schedd has the use of a slot now."""
        return any(state in {"Claimed", "Preempting"} for state, _ in self._state.values())

    @property
    def running(self) -> int:
        """Jobs that run now."""
        return len(self._running)

    def read(self, line: str) -> bool:
        """Takes in one line of the log; whether it changed anything here."""
        begin, parts = BEGIN.match(line), CHANGE.fullmatch(line.strip())
        if begin is None and parts is None:
            return False
        try:
            now = datetime.fromisoformat(line.split(maxsplit=1)[0]).timestamp()
        except ValueError:
            return False
        if parts is None:
            for slot in list(self._running):
                self._count(slot, runs=False, now=now)
            self._state.clear()
            return True
        slot, kind, new = parts[2], parts[3], parts[5]
        before = self._state.get(slot, ("Unclaimed", "Idle"))
        match kind:
            case "activity":
                after = (before[0], new)
            case "state":
                after = (new, "Idle")
            case _:
                state, _, activity = new.partition("/")
                after = (state, activity)
        self._state[slot] = after
        if after[0] == "Claimed" and before[0] != "Claimed":
            self.claims += 1
            self.first_claim = self.first_claim or now
        self._count(slot, runs=after[0] == "Claimed" and after[1] in RUNNING, now=now)
        return True

    def _count(self, slot: str, *, runs: bool, now: float) -> None:
        if runs and slot not in self._running:
            if not self._running:
                self._busy_since = now
            self._running[slot] = now
            self.started += 1
        elif not runs and slot in self._running:
            del self._running[slot]
            if not self._running:
                self._busy_seconds += now - self._busy_since

    def busy_seconds(self, now: float) -> float:
        """How long at least one job ran."""
        return self._busy_seconds + (now - self._busy_since if self._running else 0.0)

    def longest_seconds(self, now: float) -> float:
        """How long the job has run that has run longest of those that do; 0 if none runs."""
        return max((now - began for began in self._running.values()), default=0.0)

    def unfinished_seconds(self, now: float) -> float:
        """How long the jobs that run have run, together."""
        return sum(now - began for began in self._running.values())
