"""Runs condor_master until it ends, and tells what becomes of it, at every step."""

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from types import FrameType

from stageout import place

from reporter import containers, jobs, leaving, message, places, software
from reporter.codes import Code
from reporter.credentials import SECRET, Credentials
from reporter.fault import Fault
from reporter.leaving import Step, Why
from reporter.logs import Log
from reporter.message import Message
from reporter.outcome import Evidence, Outcome, jobs_fail, outcome
from reporter.pool import Question, Refusals, command
from reporter.processor import cpu_seconds
from reporter.proof import proven
from reporter.settings import Settings
from reporter.slots import Slots

MASTER = "/usr/sbin/condor_master"
LOOK_EVERY_SECONDS = 0.5
# For what changes seldom, or costs more than a look at a few lines.
REFRESH_EVERY_SECONDS = 10.0
# The kubelet brings a new Secret within a minute or two of its first content.
CREDENTIAL_SECONDS = 150.0
# For the pool to know a startd: it is told at once, so this only outlasts a restart of the collector.
JOIN_SECONDS = 300.0

DIED = Outcome(code=Code.TRANSIENT, reason="Died", sentence="died without saying why")
LOG_LINES = 20


class Supervisor:
    """One startd, from its start to its verdict."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._began = time.time()
        self._known = False
        self._proven = False
        self._slots = Slots()
        self._refusals = Refusals()
        self._log = Log(path=places.LOGS / "StartLog")
        self._jobs: tuple[jobs.Job, ...] = ()
        # Why it leaves, and how far that has come.
        self._why: Why | None = None
        self._step: Step | None = None
        self._noticed: frozenset[int] = frozenset()
        # On the monotonic clock.
        self._refresh_at = 0.0
        self._started = time.monotonic()
        self._wanted = self._started  # when somebody last had a claim, or when the pool came to know it
        self._busy = self._started  # when a job ran last, or when it began to leave
        self._stopped: float | None = None  # when the pod was asked to stop

    def ask_to_stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """The pod is to end, with its payloads if they take too long."""
        self._stopped = self._stopped or time.monotonic()

    def run(self) -> Outcome:
        """Runs the startd to its end.

        Raises:
            Fault: it cannot even begin.
        """
        self._say(DIED)
        failure = containers.attempt(places.RUN, software.ROOT)
        apptainer = containers.find([software.ROOT / name for name in software.repositories(os.environ)])
        if self._settings.payload_containers:
            containers.required("NoUserNamespaces", failure)
            if apptainer is not None:
                containers.required("ApptainerFailed", containers.start(apptainer, places.EXECUTE, software.ROOT))
        methods = self._wait_for_credentials()
        if not methods:
            asked = Outcome(code=Code.ASKED, reason="Asked", sentence="it was asked to leave before it began")
            self._say(asked)
            return asked
        environment = self._settings.environment(
            methods,
            self._credentials.copies,
            user_namespaces=failure is None,
            apptainer=apptainer.program if apptainer else None,
            stage_out=place.offered(),
        )
        try:
            master = subprocess.Popen([MASTER, "-f"], env=environment, cwd=places.SCRATCH, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise Fault("MasterFailed", f"{MASTER}: {error.strerror}; rebuild the image startd") from None
        verdict = outcome(self._watch(master, environment))
        self._say(verdict)
        return verdict

    def _wait_for_credentials(self) -> tuple[str, ...]:
        """The methods of authentication that there are credentials for; none if it was asked to leave meanwhile."""
        deadline = time.monotonic() + CREDENTIAL_SECONDS
        while self._asked(time.monotonic()) is None:
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
            self._look(question)
            if now >= self._refresh_at:
                self._refresh_at = now + REFRESH_EVERY_SECONDS
                self._refresh()
            self._why = self._why or self._reason(now)
            if self._why is not None:
                self._leave(master, now)
            time.sleep(LOOK_EVERY_SECONDS)
        question.stop()
        self._look(None)
        self._log.close()
        return Evidence(
            why=self._why,
            ended=ended,
            known=self._known,
            refusal=self._refusals.told(),
            claims=self._slots.claims,
            started=self._slots.started,
            jobs=self._jobs,
            waited_seconds=time.time() - self._began,
        )

    def _refresh(self) -> None:
        try:
            self._credentials.refresh()
        except Fault as fault:
            print(fault, flush=True)  # the copies still are good; if they go bad, the pool will say so
        self._prove()
        # Who is killed without a word has lost the work that was done by now.
        self._say(DIED)

    def _prove(self) -> None:
        """Lets the pod be Ready from when the startd has had a real payload."""
        longest = self._slots.longest_seconds(time.time())
        if not self._proven and proven(self._jobs, longest, jobs.outputs(places.EXECUTE)):
            self._proven = True
            places.READY.touch()
            print("it has had a payload", flush=True)

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
        if moved:
            self._say(DIED)
            print(
                f"{'known to the pool' if self._known else 'not yet known to the pool'}; claims {self._slots.claims}, "
                f"jobs running {self._slots.running}, ended {len(self._jobs)}",
                flush=True,
            )

    def _asked(self, now: float) -> Why | None:
        """Who or what wants the startd to leave, whatever it does."""
        if self._stopped is not None:
            return Why.STOPPED
        if leaving.requested(places.REQUESTED) in leaving.REQUESTS:
            return Why.REQUESTED
        lifetime = self._settings.lifetime_seconds
        return Why.LIFETIME if lifetime is not None and now > self._started + lifetime else None

    def _reason(self, now: float) -> Why | None:
        """Why it leaves, if it does."""
        if (asked := self._asked(now)) is not None:
            return asked
        if jobs_fail(self._jobs):
            return Why.JOBS_FAIL
        return Why.UNWANTED if self._unwanted(now) else None

    def _unwanted(self, now: float) -> bool:
        """Whether the pool does not want to know the startd, or nobody in it has claimed it for too long."""
        if self._slots.claimed:
            self._wanted = now
        patience = self._settings.noclaim_seconds
        return now > self._wanted + (patience if self._known else min(JOIN_SECONDS, patience))

    def _leave(self, master: subprocess.Popen[bytes], now: float) -> None:
        """Does what it is time for; only a pod that was asked to stop has a deadline."""
        if self._slots.running > 0 or self._step is None:
            self._busy = now
        deadline = None
        if self._stopped is not None:
            deadline = self._stopped + max(self._settings.drain_seconds, leaving.NOTICE_SECONDS)
        before, self._step = self._step, leaving.step(now, busy=self._busy, deadline=deadline)
        if self._step is Step.NOTICE:
            for starter in leaving.starters() - self._noticed:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(starter, signal.SIGTERM)
                self._noticed |= {starter}
        if self._step is before:
            return
        print(f"leaves, for {self._why.value if self._why else ''}: {self._step.name.lower()}", flush=True)
        if before is None:
            master.send_signal(signal.SIGTERM)
        if self._step is Step.FAST:
            master.send_signal(signal.SIGQUIT)
        elif self._step is Step.KILL:
            master.kill()

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
        if (used := cpu_seconds()) is not None:
            facts["cpuSeconds"] = round(used)
        if self._slots.first_claim is not None:
            facts["firstClaimSeconds"] = round(max(0.0, self._slots.first_claim - self._began))
        return facts


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
