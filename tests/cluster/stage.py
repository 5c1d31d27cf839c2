"""Small StartdSets of a test's own beside the site's, jobs of the pool for them, and all that was said of both.

What happened is read from records, not caught by polling: every version of a set and of a pod is kept, so that a test
can tell what the controller decided in the very turn in which it counted an outcome.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster.cluster import BOUND, WAIT_SECONDS, Cluster

SITE = "dev"
POOL = ("-n", "pool", "deployment/cm")
SETS = f"/apis/vacuum.atlas-sites.io/v1alpha1/namespaces/{SITE}/startdsets"
PODS = f"/api/v1/namespaces/{SITE}/pods"
REQUESTED = "vacuum.atlas-sites.io/requested"
LIFETIME = "vacuum.atlas-sites.io/lifetime"
# A startd's patience: more than a busy pool takes to claim it. Who does not want to wait for its end says `leave`.
NO_CLAIM_SECONDS = 120
DRAIN_SECONDS = 300
LEAVING_SECONDS = 120
FAST_SECONDS = 60  # for a startd that must go at once
FOREVER = "sleep 36000"
# A job that runs until the test lets it go: by a file in its startd's pod.
GO = "tmp/go"
HELD = f"until test -e /{GO}; do sleep 1; done"
BACKOFF_SECONDS = 100
# Of a job's log: its shadow is disconnected from its starter, and cannot reconnect.
LOST = (22, 24)
# What HTCondor's log says of a slot whose job is the last one.
RETIRES = "Changing activity: Busy -> Retiring"
MIB = 192

Json = dict[str, Any]
T = TypeVar("T")


def posix(text: str) -> float:
    """A time of the API server's as POSIX seconds."""
    return datetime.fromisoformat(text).timestamp()


def reporter_pid(pod: str) -> int:
    """The process on this machine that is the first one of the startd's container.

    Raises:
        LookupError: there is none, or none any more.
    """
    name = f"POD_NAME={pod}".encode()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and name in (entry / "environ").read_bytes().split(b"\0"):
                ids = re.search(r"^NSpid:\s+(.*)$", (entry / "status").read_text(), re.MULTILINE)
                if ids and ids[1].split()[1:] == ["1"]:
                    return int(entry.name)
        except OSError:
            continue  # it has ended meanwhile
    raise LookupError(f"{pod} has no reporter")


def inside(pod: str) -> Path:
    """A startd's files, seen from this machine."""
    return Path(f"/proc/{reporter_pid(pod)}/root")


@dataclass(kw_only=True)
class Records:
    """What was said, in order; whoever waits for something is woken by each word.

    Attributes:
        explain: tells, when a wait was in vain, how things are.
    """

    explain: Callable[[], str]
    said: dict[str, list[Any]] = field(default_factory=dict)
    _word: threading.Condition = field(default_factory=threading.Condition)

    def add(self, key: str, what: object) -> None:
        with self._word:
            self.said.setdefault(key, []).append(what)
            self._word.notify_all()

    def of(self, key: str) -> list[Any]:
        with self._word:
            return list(self.said.get(key, ()))

    def wait(self, key: str, look: Callable[[list[Any]], T | None], what: str) -> T:
        """What is looked for, once it was said."""
        found: list[T] = []

        def there() -> bool:
            seen = look(list(self.said.get(key, ())))
            found[:] = [] if seen is None else [seen]
            return bool(found)

        with self._word:
            if self._word.wait_for(there, timeout=WAIT_SECONDS):
                return found[0]
            last = json.dumps(self.said.get(key, [None])[-1], default=str)[-3000:]
        raise AssertionError(f"{key}: not within {WAIT_SECONDS} s: {what}; last said: {last}\n{self.explain()}")


@dataclass(kw_only=True)
class Job:
    """One job of the pool, by its event log."""

    number: int
    place: str
    stage: "Stage"

    @property
    def events(self) -> list[tuple[int, str]]:
        return self.stage.jobs.of(str(self.number))

    @property
    def starts(self) -> int:
        """How often it was begun: once, if nobody took it away."""
        return sum(event == 1 for event, _ in self.events)

    @property
    def ended(self) -> bool:
        """Whether it came to its own end."""
        return any(event == 5 for event, _ in self.events)

    def _wait(self, event: int, what: str, times: int = 1) -> str:
        def look(events: list[tuple[int, str]]) -> str | None:
            seen = [text for number, text in events if number == event]
            return seen[times - 1] if len(seen) >= times else None

        return self.stage.jobs.wait(str(self.number), look, f"the job {what}")

    def runs(self, times: int = 1) -> None:
        """Waits until it runs."""
        self._wait(1, "runs", times)

    def is_taken_away(self) -> None:
        """Waits until its startd has ended it before its own end."""
        self._wait(4, "is taken away")

    def is_lost(self) -> None:
        """Waits until the pool has lost touch with its startd, and given up finding it again."""
        for event in LOST:
            self._wait(event, "is lost")

    def ends(self) -> int:
        """Waits for its end; its exit code."""
        text = self._wait(5, "ends")
        code = re.search(r"return value (\d+)|signal (\d+)", text)
        assert code, text
        return int(code[1]) if code[1] else 128 + int(code[2])

    def output(self) -> str:
        """What it has said so far."""
        return self.stage.in_pool("cat", f"{self.place}/output")

    def host(self) -> str:
        """The pod that it ran on last."""
        words = ("-af", "LastRemoteHost")
        said = self.stage.in_pool("condor_history", str(self.number), *words)
        said = said.strip() or self.stage.in_pool("condor_q", str(self.number), *words).strip()
        return said.rpartition("@")[2].partition(".")[0]


@dataclass(kw_only=True)
class Startds:
    """A set of the test's own; jobs find it by its name, which no earlier run has used."""

    name: str
    stage: "Stage"

    def submit(self, script: str, description: str = "", *, on: int | None = None) -> Job:
        """A job that only this set's startds may run, or only the one of that number."""
        wanted = f'SiteName == "{self.name}"' if on is None else f'PodName == "{self.pod_name(on)}"'
        return self.stage.submit(wanted, script, description)

    # --- the set ---

    @property
    def statuses(self) -> list[Json]:
        """All that ever stood there."""
        return [version.get("status", {}) for version in self.stage.sets.of(self.name)]

    def await_status(self, look: Callable[[Json], bool], what: str) -> Json:
        """The first status that is so, waited for."""
        return dict(self._await(look, what)["status"])

    def _await(self, look: Callable[[Json], bool], what: str) -> Json:
        """The first version whose status is so, waited for."""

        def first(versions: list[Json]) -> Json | None:
            return next((version for version in versions if "status" in version and look(version["status"])), None)

        return self.stage.sets.wait(self.name, first, what)

    def outcome(self, number: int) -> Json:
        """What the controller put down for the startd of that number, waited for."""
        name = self.pod_name(number)
        status = self.after(number)
        return next(dict(entry) for entry in status["recent"] if entry["name"] == name)

    def after(self, number: int) -> Json:
        """The status that counted that startd first: what was decided in that turn."""
        return dict(self._counted(number)["status"])

    def heard(self, number: int) -> float:
        """When it was heard that the startd was counted, as POSIX seconds."""
        return float(self._counted(number)["heard"])

    def _counted(self, number: int) -> Json:
        name = self.pod_name(number)
        return self._await(
            lambda status: any(entry["name"] == name for entry in status.get("recent", ())),
            f"the outcome of {name} is counted",
        )

    def before(self, number: int) -> Json:
        """The last status that did not count that startd yet."""
        name = self.pod_name(number)
        self.after(number)
        return [s for s in self.statuses if not any(e["name"] == name for e in s.get("recent", ()))][-1]

    def change(self, **spec: Any) -> None:
        self.stage.kubectl("patch", "startdset", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self) -> None:
        """Asks for it, and does not wait."""
        self.stage.kubectl("delete", "startdset", self.name, "--wait=false")

    def gone(self) -> float:
        """Waits until the set is gone; how long that took since somebody asked for it."""

        def look(versions: list[Json]) -> float | None:
            gone = versions and versions[-1].get("gone")
            return float(gone - posix(versions[-1]["metadata"]["deletionTimestamp"])) if gone else None

        return self.stage.sets.wait(self.name, look, "the set is gone")

    @property
    def latest(self) -> Json:
        """The set as it is."""
        return dict(self.stage.sets.of(self.name)[-1])

    @property
    def is_gone(self) -> bool:
        return "gone" in self.latest

    # --- its startds ---

    def pod_name(self, number: int) -> str:
        return f"{self.name}-{number}"

    def pod_versions(self, number: int) -> list[Json]:
        return self.stage.pods.of(self.pod_name(number))

    def pod(self, number: int, look: Callable[[Json], bool] = lambda _: True, what: str = "is there") -> Json:
        """The first version of a startd's pod that is so, waited for."""
        name = self.pod_name(number)
        return self.stage.pods.wait(
            name, lambda versions: next((pod for pod in versions if look(pod)), None), f"{name} {what}"
        )

    def runs(self, number: int) -> Json:
        """Waits until the startd's container runs."""
        return self.pod(
            number,
            lambda pod: any("running" in box["state"] for box in _boxes(pod)),
            "runs",
        )

    def waits(self, number: int) -> Json:
        """Waits until the first of the containers runs that come before the startd's."""
        return self.pod(
            number,
            lambda pod: any("running" in box["state"] for box in pod["status"].get("initContainerStatuses", ())),
            "waits",
        )

    def known(self, number: int) -> None:
        """Waits until the pool shows the startd's slot."""
        name = self.pod_name(number)
        shows = ("condor_status", "-slot", "-constraint", f'PodName == "{name}"', "-af", "Name")
        self.stage.eventually(lambda: self.stage.in_pool(*shows), f"{name} is known to the pool")

    def was_ready(self, number: int) -> bool:
        """Whether it ever was proven to have had a real payload."""
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for pod in self.pod_versions(number)
            for condition in pod["status"].get("conditions", ())
        )

    def ready(self, number: int) -> None:
        """Waits until it is proven to have had a real payload."""
        self.pod(
            number,
            lambda pod: any(
                c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ())
            ),
            "has had a real payload",
        )

    def last_word(self, number: int) -> Json:
        """What its reporter said at its end, in numbers and names."""
        said = [
            state["terminated"]["message"]
            for pod in self.pod_versions(number)
            for box in _boxes(pod)
            if "message" in (state := box["state"]).get("terminated", {})
        ]
        return dict(json.loads(said[-1].splitlines()[1]))

    def inside(self, number: int) -> Path:
        """The startd's files, seen from this machine."""
        return inside(self.pod_name(number))

    def leave(self, number: int) -> None:
        """Has HTCondor end in an idle startd, by itself as far as its reporter knows, before its patience does."""
        container = Path(f"/proc/{self.reporter_pid(number)}/ns/pid").readlink()
        (master,) = _processes("condor_master", container)
        os.kill(master, signal.SIGTERM)

    def let_go(self, number: int) -> None:
        """Lets the jobs end that are held on this startd."""
        (self.inside(number) / GO).touch()

    def made(self, number: int, file: str) -> None:
        """Waits until a job on this startd has made the file."""
        self.stage.eventually((self.inside(number) / file).exists, f"{self.pod_name(number)}: {file} is made")

    def drains(self, number: int) -> None:
        """Waits until the busy startd was told to leave, so that it takes no job after the one that it has."""
        log = self.inside(number) / "scratch/log/StartLog"
        self.stage.eventually(lambda: RETIRES in log.read_text(), f"{self.pod_name(number)} retires its job's slot")

    def reporter_pid(self, number: int) -> int:
        """The first process of the startd's container, on this machine; with it ends the reporter."""
        return reporter_pid(self.pod_name(number))


@dataclass(kw_only=True)
class Stage:
    """Where the tests of one module play.

    Attributes:
        run: tells this run's names from any other's: the collector remembers dead startds for a quarter of an hour.
    """

    cluster: Cluster
    run: str = field(default_factory=lambda: secrets.token_hex(2))
    sets: Records = field(init=False)
    pods: Records = field(init=False)
    jobs: Records = field(init=False)
    _base: Json = field(default_factory=dict)
    _made: list[Startds] = field(default_factory=list)
    _listeners: list["subprocess.Popen[str]"] = field(default_factory=list)
    _closed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.sets, self.pods, self.jobs = (Records(explain=lambda: self.cluster.state(SITE)) for _ in range(3))

    @property
    def directory(self) -> str:
        """Where the jobs lie, beside the pool's schedd."""
        return f"/tmp/{self.run}"

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """In the site's namespace."""
        return self.cluster.kubectl("-n", SITE, *words, stdin=stdin, check=check)

    def eventually(self, look: Callable[[], T], what: str) -> T:
        """What is looked for, once it is there."""
        return self.cluster.eventually(look, what, SITE)

    def in_pool(self, *command: str, stdin: str | None = None) -> str:
        """What a command beside the schedd prints."""
        words = ["-i"] if stdin else []
        return self.cluster.kubectl("exec", *words, *POOL, "--", *command, stdin=stdin)

    def startds(
        self,
        name: str,
        *,
        pods: int = 1,
        env: Mapping[str, str] | None = None,
        init_env: Mapping[str, str] | None = None,
        change: Callable[[Json], None] = lambda _: None,
        **spec: Any,
    ) -> Startds:
        """Names a set; it is there once it is opened, so that jobs can wait for it.

        Args:
            name: within this run.
            pods: how many startds, and how many of them without a proof.
            env: what differs in the environment of the startd.
            init_env: the same, of the container that waits for the software.
            change: the template in its last detail.
            spec: what differs beside the template.
        """
        made = Startds(name=f"{name}-{self.run}", stage=self)
        self._made.append(made)
        body = {
            "apiVersion": "vacuum.atlas-sites.io/v1alpha1",
            "kind": "StartdSet",
            "metadata": {"name": made.name, "namespace": SITE},
            "spec": {
                "limits": {"pods": pods},
                "window": {"initial": pods, "maximum": pods},
                "backoff": {"baseSeconds": BACKOFF_SECONDS, "capSeconds": 10 * BACKOFF_SECONDS},
                "fizzleSeconds": NO_CLAIM_SECONDS + 10,
                "startSeconds": WAIT_SECONDS,
                "drain": {"seconds": DRAIN_SECONDS + LEAVING_SECONDS},
                "template": self.template(made.name, env or {}, init_env or {}, change),
                **spec,
            },
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(body))
        return made

    def template(
        self, name: str, env: Mapping[str, str], init_env: Mapping[str, str], change: Callable[[Json], None]
    ) -> Json:
        """The site's own template, with short times and little memory."""
        template: Json = deepcopy(self._base["spec"]["template"])
        pod = template["spec"]
        init, startd = pod["initContainers"][0], pod["containers"][0]
        _set_env(init, {"SOFTWARE_SECONDS": str(WAIT_SECONDS * 2 // 3), **init_env})
        _set_env(
            startd,
            {"SITE": name, "NOCLAIM_SECONDS": str(NO_CLAIM_SECONDS), "DRAIN_SECONDS": str(DRAIN_SECONDS), **env},
        )
        drain = next(int(entry["value"]) for entry in startd["env"] if entry["name"] == "DRAIN_SECONDS")
        pod["terminationGracePeriodSeconds"] = drain + LEAVING_SECONDS
        # The site's quota counts limits; half a core still is one that is offered.
        for box in (init, startd):
            box["resources"]["limits"]["cpu"] = "500m"
        startd["resources"]["requests"].update(cpu="20m", memory="64Mi")
        startd["resources"]["limits"]["memory"] = f"{MIB}Mi"
        change(template)
        return template

    def submit(self, wanted: str, script: str, description: str = "") -> Job:
        """A job for the startds that are as wanted."""
        text = f"""\
executable = job.sh
output = output
error = error
log = {self.directory}/log
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
request_memory = 16
request_disk = 1MB
requirements = {wanted}
{description}
queue
"""
        files = {"job.sh": f"#!/bin/sh\n{script}\n", "job.sub": text}
        written = " && ".join(
            f"echo {b64encode(content.encode()).decode()} | base64 -d > {file}" for file, content in files.items()
        )
        place = f"cd $(mktemp -d -p {self.directory})"
        command = f"{place} && {written} && chmod +x job.sh && pwd && condor_submit -terse job.sub"
        place, said = self.in_pool("sh", "-s", stdin=command).split("\n", 1)
        return Job(number=int(said.split(".")[0]), place=place, stage=self)

    # --- listening ---

    def open(self) -> None:
        """Begins to listen."""
        self._base = json.loads(self.kubectl("get", "startdset", "startds", "-o", "json"))
        self.in_pool("sh", "-c", f"mkdir -m 755 {self.directory} && touch {self.directory}/log")
        self._listen(["get", "--raw", f"{SETS}?watch=1"], lambda line: self._object(line, self.sets))
        self._listen(["get", "--raw", f"{PODS}?watch=1"], lambda line: self._object(line, self.pods))
        current = ["", ""]
        self._listen(
            ["exec", *POOL, "--", "tail", "-n", "+1", "-F", f"{self.directory}/log"],
            lambda line: self._event(line, current),
        )

    def clear(self) -> None:
        """Takes away all that was made here, whatever became of it."""
        names = [startds.name for startds in self._made]
        if names:
            kill = json.dumps({"spec": {"deletionPolicy": "Kill"}})
            self.kubectl("patch", "startdset", *names, "--type=merge", "-p", kill, check=False)
            self.kubectl("delete", "startdset", *names, "--wait=false", check=False)
            sets = [f"startdset/{name}" for name in names]
            self.kubectl("wait", "--for=delete", *sets, BOUND, check=False)
            self._strip(sets)
            pods = f"vacuum.atlas-sites.io/set in ({','.join(names)})"
            self._strip(self.kubectl("get", "pods", "-l", pods, "-o", "name").split())
        self.in_pool("sh", "-c", f"condor_rm -constraint 'UserLog == \"{self.directory}/log\"' 2>&1 || true")

    def close(self) -> None:
        """Listens no more."""
        self._closed.set()
        for listener in self._listeners:
            listener.terminate()
            listener.wait(timeout=WAIT_SECONDS)

    def _strip(self, names: list[str]) -> None:
        """Takes away what a test that failed has left, and that nobody lets go any more."""
        free = json.dumps({"metadata": {"finalizers": None}})
        for name in self.kubectl("get", *names, "--ignore-not-found", "-o", "name").split() if names else ():
            self.kubectl("patch", name, "--type=merge", "-p", free, check=False)
            self.kubectl("delete", name, "--ignore-not-found", "--wait=false", "--grace-period=1", check=False)

    def _listen(self, words: list[str], hear: Callable[[str], None]) -> None:
        ready = threading.Event()

        def listen() -> None:
            while not self._closed.is_set():
                with subprocess.Popen(
                    ["kubectl", "--kubeconfig", self.cluster.kubeconfig, *words],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                ) as process:
                    self._listeners.append(process)
                    ready.set()
                    assert process.stdout is not None
                    for line in process.stdout:
                        hear(line)
                self._closed.wait(1.0)

        threading.Thread(target=listen, daemon=True).start()
        ready.wait()

    def _object(self, line: str, records: Records) -> None:
        event = json.loads(line)
        raw: Json = event["object"]
        if event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
            raw["metadata"].pop("managedFields", None)
            raw["heard"] = datetime.now().astimezone().timestamp()
            if event["type"] == "DELETED":
                raw["gone"] = raw["heard"]
            records.add(raw["metadata"]["name"], raw)

    def _event(self, line: str, current: list[str]) -> None:
        """An event of a job: a heading, some lines, and three dots."""
        if heading := re.match(r"(\d{3}) \((\d+)\.\d+\.\d+\)", line):
            current[:] = [heading[2], line]
        elif line.startswith("..."):
            number, text = current
            self.jobs.add(str(int(number)), (int(text[:3]), text))
        elif current[0]:
            current[1] += line


def _processes(program: str, container: Path) -> list[int]:
    """Those of this machine that run the program in the container, whose namespace of processes it names."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if (entry / "comm").read_text() == f"{program}\n" and (entry / "ns/pid").readlink() == container:
                found.append(int(entry.name))
    return found


def _boxes(pod: Json) -> list[Json]:
    return list(pod["status"].get("containerStatuses", ()))


def _ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _set_env(container: Json, values: Mapping[str, str]) -> None:
    names = {entry["name"]: entry for entry in container["env"]}
    for name, value in values.items():
        entry = names.get(name)
        if entry is None:
            container["env"].append({"name": name, "value": value})
        else:
            entry.pop("valueFrom", None)
            entry["value"] = value


@contextmanager
def opened(cluster: Cluster) -> Iterator[Stage]:
    """A stage, and nothing of it afterwards."""
    stage = Stage(cluster=cluster)
    stage.open()
    try:
        yield stage
    finally:
        stage.clear()
        stage.close()


@dataclass(frozen=True, kw_only=True)
class Told:
    """A story: the set, and its jobs in the order in which they were queued."""

    startds: Startds
    jobs: tuple[Job, ...] = ()


@contextmanager
def under_way(
    stage: Stage, stories: Mapping[str, Callable[[Stage], T]], at_once: int
) -> Iterator[Mapping[str, Future[T]]]:
    """All stories, in their order, so many at once; the end waits for each of them."""
    with ThreadPoolExecutor(at_once) as players:
        yield {name: players.submit(play, stage) for name, play in stories.items()}
