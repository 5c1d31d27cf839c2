"""The engine at work on a whole stack or on one of its sites, as a person or a workflow asks for it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from deploy.events import SITE, Run, read

POLICIES = "policies"
MISSING = 'there is no pulumi on PATH: install it, or say eval "$(make -s env)" for the one that `make up` built'


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be done.

    Attributes:
        command: of the engine.
        stack: its name.
        site: the one site that is meant; all of them by default.
        refresh: look first at what is really there.
        yes: ask nobody.
    """

    command: Literal["preview", "up", "destroy"]
    stack: str
    site: str | None = None
    refresh: bool = False
    yes: bool = False

    def words(self) -> Sequence[str]:
        """The command line, but for the event log."""
        words = ["pulumi", self.command, "--stack", self.stack]
        if self.command != "destroy":
            words += ["--policy-pack", POLICIES]
        if self.command != "preview":
            # One site that fails does not stop the others.
            words += ["--continue-on-error"]
        if self.refresh:
            words += ["--refresh"]
        if self.refresh and self.command == "preview":
            words += ["--expect-no-changes"]
        if self.yes:
            words += ["--yes", "--skip-preview", "--non-interactive"]
        if self.site is not None:
            # Whatever is in a site has the site's component above it, so it counts as its dependent; by its name alone
            # nobody could tell what is in site a from what is in site a-b.
            words += ["--target", f"**{SITE}::{self.site}", "--target-dependents"]
        return words


def run(request: Request) -> tuple[int, Run]:
    """Runs the engine, its output shown; its exit code and what it did.

    Raises:
        FileNotFoundError: there is no engine.
    """
    if shutil.which("pulumi") is None:
        raise FileNotFoundError(MISSING)
    with tempfile.TemporaryDirectory(prefix="atlas-sites-") as directory:
        log = Path(directory) / "events.jsonl"
        # The option is there only with that variable; Pulumi's own Automation API reads the engine's events by it.
        process = _Process([*request.words(), "--event-log", str(log)], {**os.environ, "PULUMI_DEBUG_COMMANDS": "true"})
        status = process.wait()
        return status, read(log.read_text(encoding="utf-8").splitlines() if log.exists() else [])


class _Process:
    """A program that gets each signal once: by the terminal where there is one, else from us.

    A runner of workflows signals only the process that it started.
    """

    def __init__(self, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self._passing_on = not sys.stdin.isatty()
        self._process = subprocess.Popen(words, env=environment, start_new_session=self._passing_on)

    def wait(self) -> int:
        with self._signals():
            return self._process.wait()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._heard) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        # To SIGINT the engine lets operations that are under way end; SIGTERM comes from no terminal.
        if self._passing_on or number == signal.SIGTERM:
            self._process.send_signal(signal.SIGINT)
