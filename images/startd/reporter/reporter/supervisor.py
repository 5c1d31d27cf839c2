"""Runs condor_master until it ends, and tells what becomes of it, at every step."""

import math
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from reporter import jobs, message, places, processes
from reporter.codes import Code
from reporter.credentials import SECRET, Credentials
from reporter.fault import Fault
from reporter.logs import Log
from reporter.message import Message
from reporter.outcome import FIZZLE_SECONDS, Evidence, Outcome, eats, outcome
from reporter.pool import Question, Refusals, command
from reporter.settings import Settings
from reporter.slots import Slots

MASTER = "/usr/sbin/condor_master"
LOOK_EVERY_SECONDS = 0.5
REFRESH_EVERY_SECONDS = 10.0
# The kubelet brings a new Secret within a minute or two of its first content.
CREDENTIAL_SECONDS = 150.0
# For the pool to know a startd: it is told at once, so this only outlasts a restart of the collector.
JOIN_SECONDS = 300.0
# Before the end of a drain, payloads are told that it comes; after it HTCondor kills them and leaves.
NOTICE_SECONDS = 30.0
# From the end of the drain to the end of condor_master; the pod's grace ends 60 s later.
LEAVING_SECONDS = 60.0
# The pod's annotation `requested`, as the kubelet shows it, within a minute or so of a change.
REQUESTED = Path("/etc/atlas-sites/pod/requested")
PEACEFUL = frozenset({"peaceful", "drain"})
PEEK_EVERY_SECONDS = 10.0

DIED = Outcome(code=Code.TRANSIENT, reason="Died", sentence="died without saying why")
LOG_LINES = 20


class Supervisor:
    """One startd, from its start to its verdict."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._began = time.time()
        self._lives_until = time.monotonic() + (settings.lifetime_seconds or math.inf)
        self._told: float | None = None  # on the monotonic clock, as all below: when SIGTERM came
        self._retires = False  # takes no more payloads, but has all the time that its own need
        self._stopped: float | None = None  # since when condor_master is to end
        self._stage = 0  # of the shutdown, which goes only forward
        self._known = False
        self._proven = False
        self._peek_at = 0.0
        self._slots = Slots()
        self._refusals = Refusals()
        self._log = Log(path=places.LOGS / "StartLog")
        self._jobs: tuple[jobs.Job, ...] = ()
        self._refresh_at = 0.0
        self._wanted = 0.0  # on the monotonic clock: when somebody last had a claim, or when the pool came to know it

    def ask_to_stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Somebody wants the startd to end, once its jobs have, or when the time for that is over."""
        self._told = self._told or time.monotonic()

    @property
    def _asked(self) -> bool:
        return self._told is not None or self._retires

    def run(self) -> Outcome:
        """Runs the startd to its end.

        Raises:
            Fault: it cannot even begin.
        """
        self._say(DIED)
        methods = self._wait_for_credentials()
        if not methods:
            asked = Outcome(code=Code.ASKED, reason="Asked", sentence="asked to stop before it began")
            self._say(asked)
            return asked
        environment = self._settings.environment(methods, self._credentials.copies)
        try:
            master = subprocess.Popen([MASTER, "-f"], env=environment, cwd=places.SCRATCH, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise Fault("MasterFailed", f"{MASTER}: {error.strerror}; rebuild the image startd") from None
        verdict = outcome(self._watch(master, environment))
        self._say(verdict)
        return verdict

    def _wait_for_credentials(self) -> tuple[str, ...]:
        """The methods of authentication that there are credentials for; none if it was asked to stop meanwhile."""
        deadline = time.monotonic() + CREDENTIAL_SECONDS
        while not self._asked:
            self._credentials.refresh()
            if methods := self._credentials.methods():
                return methods
            if time.monotonic() > deadline:
                raise Fault(
                    "NoCredential",
                    f"the Secret at {SECRET} had neither token nor proxy for {CREDENTIAL_SECONDS:.0f} s; "
                    "look at the credentials refresher",
                )
            time.sleep(LOOK_EVERY_SECONDS)
        return ()

    def _watch(self, master: subprocess.Popen[bytes], environment: Mapping[str, str]) -> Evidence:
        question = Question(
            words=command(self._settings, self._began), environment=environment, refusals=self._refusals
        )
        self._wanted = time.monotonic()
        while (ended := master.poll()) is None:
            now = time.monotonic()
            self._refresh(now)
            self._look(question)
            self._peek(now)
            if self._unwanted(now) or self._asked or eats(self._jobs):
                self._end(master, now)
            time.sleep(LOOK_EVERY_SECONDS)
        question.stop()
        self._look(None)
        self._log.close()
        return Evidence(
            asked=self._asked,
            ended=ended,
            known=self._known,
            refusal=self._refusals.told(),
            claims=self._slots.claims,
            started=self._slots.started,
            jobs=self._jobs,
            waited_seconds=time.time() - self._began,
        )

    def _refresh(self, now: float) -> None:
        if now < self._refresh_at:
            return
        self._refresh_at = now + REFRESH_EVERY_SECONDS
        try:
            self._credentials.refresh()
        except Fault as fault:
            print(fault, flush=True)  # the copies still are good; if they go bad, the pool will say so

    def _look(self, question: Question | None) -> None:
        """Takes in what is new, and says it."""
        moved = False
        for line in self._log.lines():
            moved |= self._slots.read(line)
            self._refusals.read(line)
        ended = tuple(jobs.collect(places.JOBS))
        moved |= bool(ended)
        self._jobs += ended
        if not self._known and (self._slots.claims > 0 or (question is not None and question.look())):
            self._known = moved = True
            self._wanted = time.monotonic()
            places.KNOWN.touch()
        if not self._proven and any(job.ok for job in ended):
            self._prove()
        if moved:
            self._say(DIED)
            print(
                f"{'known to the pool' if self._known else 'not yet known to the pool'}; claims {self._slots.claims}, "
                f"jobs running {self._slots.running}, ended {len(self._jobs)}",
                flush=True,
            )

    def _peek(self, now: float) -> None:
        """What costs more to find out than to read on in a log: a proof while the job runs, and a wish of the pod's."""
        if now < self._peek_at:
            return
        self._peek_at = now + PEEK_EVERY_SECONDS
        if not self._proven and (
            self._slots.longest_seconds(time.time()) > FIZZLE_SECONDS or jobs.received(places.EXECUTE)
        ):
            self._prove()
        if not self._retires and (now > self._lives_until or _requested() in PEACEFUL):
            self._retires = True
            print("takes no more jobs, and leaves when those it has are through", flush=True)

    def _prove(self) -> None:
        self._proven = True
        places.PROVEN.touch()
        print("has had a payload", flush=True)

    def _unwanted(self, now: float) -> bool:
        """Whether the pool does not want to know the startd, or nobody in it has claimed it for too long."""
        if self._slots.claimed:
            self._wanted = now
        patience = self._settings.noclaim_seconds
        return now > self._wanted + (patience if self._known else min(JOIN_SECONDS, patience))

    def _end(self, master: subprocess.Popen[bytes], now: float) -> None:
        """Asks condor_master to let the jobs end and then to go; when time is up, tells the jobs and makes it go."""
        self._stopped = self._stopped or now
        # Nobody waits for one that goes by itself: its time is not over before its last job is.
        since = max(self._stopped, self._wanted) if self._told is None else self._told
        end = since + self._settings.drain_seconds
        steps = (
            (0.0, lambda: master.send_signal(signal.SIGTERM)),
            (end - NOTICE_SECONDS, processes.tell_payloads),
            (end, lambda: master.send_signal(signal.SIGQUIT)),
            (end + LEAVING_SECONDS, master.kill),
        )
        while self._stage < len(steps) and now >= steps[self._stage][0]:
            steps[self._stage][1]()
            self._stage += 1

    def _say(self, what: Outcome) -> None:
        message.write(Message(code=what.code, reason=what.reason, sentence=what.sentence, facts=self._facts()))

    def _facts(self) -> dict[str, object]:
        now = time.time()
        busy = self._slots.busy_seconds(now)
        lost = sum(job.seconds for job in self._jobs if job.end is jobs.End.EVICT)
        told = [job.payloads for job in self._jobs if job.payloads is not None]
        exits = Counter(str(job.exit_code) for job in self._jobs if job.exit_code is not None)
        facts: dict[str, object] = {
            "claims": self._slots.claims,
            "jobsStarted": self._slots.started,
            "jobsOk": sum(job.ok for job in self._jobs),
            "jobsFailed": sum(job.exit_code not in {None, 0} for job in self._jobs),
            "jobsEmpty": sum(job.empty for job in self._jobs),
            "exits": dict(exits.most_common(10)),
            "busySeconds": round(busy),
            "idleSeconds": round(max(0.0, now - self._began - busy)),
            "lostWorkSeconds": round(lost + self._slots.unfinished_seconds(now)),
            "node": self._settings.node,
        }
        if told:
            facts["pandaIds"] = sum(told)
        if self._slots.first_claim is not None:
            facts["firstClaimSeconds"] = round(max(0.0, self._slots.first_claim - self._began))
        return facts


def _requested() -> str:
    try:
        return REQUESTED.read_text().strip()
    except OSError:
        return ""


def main() -> int:
    """The program of the startd container; its exit code."""
    message.write(Message(code=DIED.code, reason=DIED.reason, sentence=DIED.sentence))
    try:
        settings = Settings.read(os.environ)
        places.make()
        supervisor = Supervisor(settings, Credentials(secret=SECRET, copies=places.CREDENTIALS))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, supervisor.ask_to_stop)
        verdict = supervisor.run()
    except Fault as fault:
        verdict = Outcome(code=Code.SITE_FAULT, reason=fault.reason, sentence=str(fault))
        message.write(Message(code=verdict.code, reason=verdict.reason, sentence=verdict.sentence))
    except OSError as error:  # above all: no space left
        sentence = f"{error.filename or places.SCRATCH}: {error.strerror}; give the startd more disk"
        verdict = Outcome(code=Code.SITE_FAULT, reason="ScratchUnusable", sentence=sentence)
        message.write(Message(code=verdict.code, reason=verdict.reason, sentence=sentence))
    if verdict.code >= Code.BANNED:
        _show_logs()
    print(f"{int(verdict.code)} {verdict.reason}: {verdict.sentence}", flush=True)
    return verdict.code.exit_code


def _show_logs() -> None:
    """For `kubectl logs`: the volume with the logs goes with the pod."""
    for log in (places.LOGS / "MasterLog", places.LOGS / "StartLog"):
        lines = jobs.tail(log).splitlines()[-LOG_LINES:]
        print("\n".join([f"--- the end of {log}", *lines]), flush=True)
