"""Whether the pool knows this startd, and if not, why."""

import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from reporter.codes import Code
from reporter.settings import Settings

ANSWER_SECONDS = 15.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0
LINE_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why the pool does not take the startd."""

    code: Code
    reason: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a line of HTCondor's says about it; `{0}` in the sentence is the line."""

    pattern: re.Pattern[str]
    code: Code
    reason: str
    sentence: str


# The first that was seen wins: whoever is refused by name was heard, so what else went wrong has passed.
SIGNS: tuple[Sign, ...] = (
    Sign(
        pattern=re.compile(r'Received "DENIED" from server for user '),
        code=Code.BANNED,
        reason="NotAuthorized",
        sentence="the pool knows who we are and does not let us in ({0}); its administrators decide that",
    ),
    Sign(
        pattern=re.compile(r"AUTHENTICATE:[0-9]+:|Failed to authenticate"),
        code=Code.SITE_FAULT,
        reason="NotAuthenticated",
        sentence="the pool does not believe our credential ({0}); renew the site's token or proxy, check trustDomain",
    ),
    Sign(
        pattern=re.compile(r"Unable to resolve|Can't resolve|Failed to connect|TCP connection to .* failed"),
        code=Code.GRID_FAULT,
        reason="PoolUnreachable",
        sentence="the pool does not answer ({0}); check the collector's address and the way out of the cluster",
    ),
)


@dataclass(kw_only=True)
class Refusals:
    """The signs that were seen, the last line for each."""

    _seen: dict[str, str] = field(default_factory=dict)

    def read(self, line: str) -> None:
        """Takes in a line of a log or of a program's complaints."""
        sign = next((sign for sign in SIGNS if sign.pattern.search(line)), None)
        if sign is not None:
            self._seen[sign.reason] = re.sub(r"^\S+T\S+ ", "", line.strip())[:LINE_CHARACTERS]

    def told(self) -> Refusal | None:
        """The most telling one."""
        for sign in SIGNS:
            if sign.reason in self._seen:
                sentence = sign.sentence.format(self._seen[sign.reason])
                return Refusal(code=sign.code, reason=sign.reason, sentence=sentence)
        return None


def command(settings: Settings, since: float) -> list[str]:
    """Asks the collector for this startd's own slots; an earlier one of the same name does not count.

    Not for the ad of the daemon itself: jobs go by slots, and on a busy machine the first of those ads gets lost now
    and then, while the next one comes after 300 s.
    """
    mine = " && ".join(
        (
            f'PodName == "{settings.pod}"',
            f'SiteName == "{settings.site}"',
            f'ATLAS_SITE == "{settings.atlas_site}"',
            f"DaemonStartTime >= {int(since)}",
        )
    )
    return ["condor_status", "-slot", "-constraint", mine, "-limit", "1", "-autoformat", "Name"]


@dataclass(kw_only=True)
class Question:
    """Asks the collector again and again, in the background, until it shows the startd.

    Attributes:
        words: the command; what it prints is a yes.
        environment: with the startd's own credentials.
        refusals: where its complaints go.
    """

    words: list[str]
    environment: Mapping[str, str]
    refusals: Refusals
    answered: bool = False
    _asking: subprocess.Popen[str] | None = None
    _pause: float = FIRST_PAUSE_SECONDS
    _next: float = 0.0

    def look(self) -> bool:
        """Whether the collector has shown the startd; never waits for it."""
        now = time.monotonic()
        if self.answered:
            return True
        if self._asking is None:
            if now >= self._next:
                self._ask(now)
            return False
        if self._asking.poll() is None:
            if now > self._next:
                self._asking.kill()
            return False
        # Read only now: what it says is far less than a pipe holds.
        said, complaints = self._asking.communicate()
        self.answered = self._asking.returncode == 0 and bool(said.strip())
        for line in complaints.splitlines():
            self.refusals.read(line)
        self._asking = None
        self._next = now + self._pause
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2)
        return self.answered

    def _ask(self, now: float) -> None:
        self._asking = subprocess.Popen(
            self.words,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._next = now + ANSWER_SECONDS

    def stop(self) -> None:
        """Ends a question that is under way."""
        if self._asking is not None:
            self._asking.kill()
            self._asking.communicate()
