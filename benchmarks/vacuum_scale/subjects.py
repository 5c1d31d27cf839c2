"""Who makes the pods: the vacuum controller, the built-in controllers and two loops, each started the way it runs."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import yaml

from benchmarks.vacuum_scale import objects
from benchmarks.vacuum_scale.objects import JOBS, NAME, NAMESPACE, REPLICA_SETS, SETS, Json
from benchmarks.vacuum_scale.plane import CONTROLLER_MANAGER, SUBJECT, Pace, Plane
from local.paths import CHECKOUT

CRD = CHECKOUT / "components" / "startdset_crd.yaml"
MERGE = {"Content-Type": "application/merge-patch+json"}
START_SECONDS = 30.0
BUILT_IN_CONTROLLERS = 2


class Subject(Protocol):
    """One way to keep so many pods running.

    Attributes:
        name: in the table.
        flow: under which the API server counts its calls.
        replaces: it makes a new pod when one has ended.
        process: that does the work.
    """

    name: str
    flow: str
    replaces: bool
    process: "subprocess.Popen[bytes]"

    def start(self) -> None:
        """Until it is ready to make pods."""

    def scale(self, pods: int) -> None:
        """Wants so many."""


@dataclass(kw_only=True)
class Vacuum:
    """Our controller as it is installed, but for its window and its rate."""

    plane: Plane
    client: httpx.Client
    pace: Pace | None
    window: int | None
    made: bool = False
    name: str = "vacuum"
    flow: str = SUBJECT
    replaces: bool = True

    def start(self) -> None:
        """The kind and the controller; without a set, since a limit of nought would close the window."""
        _post(self.client, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", yaml.safe_load(CRD.read_text()))
        until(lambda: self.client.get(SETS).is_success, "the kind StartdSet is served")
        self.begin()
        until(lambda: any(entry["event"] == "leads" for entry in self._log()), "the controller leads")

    def begin(self) -> None:
        """The process alone."""
        pace = [] if self.pace is None else ["--writes-per-second", f"{self.pace.qps:g}"]
        self.process = self.plane.start(
            self.name,
            [
                *(sys.executable, "-m", "services.vacuum"),
                *("--kubeconfig", self.plane.kubeconfig(SUBJECT), "--namespace", NAMESPACE, *pace),
            ],
            PYTHONPATH=str(CHECKOUT),
            PORT="0",
        )

    def end(self) -> None:
        """As an upgrade ends it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(START_SECONDS)

    def scale(self, pods: int) -> None:
        """By the limit."""
        if not self.made:
            _post(self.client, SETS, objects.startdset(pods, self.window))
            self.made = True
        _patch(self.client, f"{SETS}/{NAME}", {"spec": {"limits": {"pods": pods}}})

    def decisions(self) -> int:
        """How many its log tells of, by all its processes; that it cannot see yet is none."""
        return sum(entry["event"] == "decided" and entry["state"] != "Blind" for entry in self._log())

    def _log(self) -> list[Json]:
        lines = (self.plane.directory / f"{self.name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


@dataclass(kw_only=True)
class BuiltIn:
    """A controller of kube-controller-manager, with one object that asks for all pods."""

    plane: Plane
    client: httpx.Client
    pace: Pace | None
    name: str
    path: str
    body: Json
    key: str
    flow: str = CONTROLLER_MANAGER
    replaces: bool = True

    def start(self) -> None:
        """The process and its object."""
        self.process = self.plane.controller_manager(self.pace)
        _post(self.client, self.path, self.body)
        log = self.plane.directory / f"{CONTROLLER_MANAGER}.log"
        until(lambda: log.read_text().count("Caches are synced") == BUILT_IN_CONTROLLERS, "its views are complete")

    def scale(self, pods: int) -> None:
        """By its object."""
        _patch(self.client, f"{self.path}/{NAME}", {"spec": {self.key: pods}})


@dataclass(kw_only=True)
class Loop:
    """One of `loops`."""

    plane: Plane
    loop: str
    name: str
    replaces: bool
    workers: int = 1
    flow: str = SUBJECT

    @property
    def _wanted(self) -> Path:
        return self.plane.directory / "wanted"

    def start(self) -> None:
        """The process."""
        self.scale(0)
        self.process = self.plane.start(
            self.loop,
            [
                *(sys.executable, "-m", "benchmarks.vacuum_scale.loops", self.loop),
                *("--kubeconfig", self.plane.kubeconfig(SUBJECT), "--wanted", self._wanted),
                *("--workers", self.workers),
            ],
            PYTHONPATH=str(CHECKOUT),
        )
        time.sleep(1.0)

    def scale(self, pods: int) -> None:
        """By its file."""
        fresh = self._wanted.with_suffix(".new")
        fresh.write_text(str(pods))
        fresh.replace(self._wanted)


def subjects(plane: Plane, client: httpx.Client, pace: Pace | None, window: int, workers: int) -> dict[str, Subject]:
    """All of them, by name; none is started.

    Args:
        plane: where they work.
        client: of the benchmark, to make their objects.
        pace: None is their own defaults.
        window: of our controller, unless the pace is the default.
        workers: creates side by side of the bare loop.
    """
    made: list[Subject] = [
        Loop(plane=plane, loop="bare", name="bare create loop", replaces=False, workers=workers),
        Vacuum(plane=plane, client=client, pace=pace, window=window if pace else None),
        BuiltIn(plane=plane, client=client, pace=pace, name="Job", path=JOBS, body=objects.job(), key="parallelism"),
        BuiltIn(
            plane=plane,
            client=client,
            pace=pace,
            name="ReplicaSet",
            path=REPLICA_SETS,
            body=objects.replica_set(),
            key="replicas",
        ),
        Loop(plane=plane, loop="poll", name="poll loop as prp's", replaces=True),
    ]
    return {subject.name: subject for subject in made}


def until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Waits for what must come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


def _post(client: httpx.Client, path: str, body: Json) -> None:
    client.post(path, json=body).raise_for_status()


def _patch(client: httpx.Client, path: str, body: Json) -> None:
    client.patch(path, content=json.dumps(body), headers=MERGE).raise_for_status()
