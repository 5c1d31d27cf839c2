"""Tells a person who waits what is done, what is next and how long each step took."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

HEARTBEAT_SECONDS = 30.0


@dataclass
class Progress:
    """Numbered steps with their seconds.

    A long step says what it is doing through `note`; the first line of a step appears before the step begins, so
    that a terminal that stands still always shows what it stands at.
    """

    total: int
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    seconds: dict[str, float] = field(default_factory=dict)
    _number: int = 0

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Runs the body as the next step, called `name`; `what` says in a few words what it does."""
        self._number += 1
        head = f"[{self._number}/{self.total}]"
        self._say(f"{head} {name}: {what}")
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._say(f"{head} {name}: stopped after {time.monotonic() - started:.1f} s")
            raise
        self.seconds[name] = time.monotonic() - started
        self._say(f"{head} {name}: done in {self.seconds[name]:.1f} s")

    @contextmanager
    def alive(self, what: str) -> Iterator[None]:
        """Says every half minute that the body is still at work, and for how long."""
        ended = threading.Event()
        began = time.monotonic()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                self.note(f"{what}, {time.monotonic() - began:.0f} s so far")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def note(self, text: str) -> None:
        """One line below the current step."""
        self._say(f"      {text}")

    def _say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)
