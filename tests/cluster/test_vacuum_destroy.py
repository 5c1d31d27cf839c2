"""The end of a StartdSet whose startds have work: as its spec says, and whatever happens to controller or API server.

The stories play at once, each on a small set of its own beside the site's; those that take the controller or the API
server away come after them.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager

import pytest

from local.node import processes
from local.node.layout import this_machine
from tests.cluster.cluster import BOUND
from tests.cluster.stage import FAST_SECONDS, FOREVER, HELD, Job, Stage, Startds, Told, under_way

pytestmark = pytest.mark.cluster

CONTROLLER = "deployment/vacuum"
SET_FINALIZER = "vacuum.atlas-sites.io/drain"
OUTCOME_FINALIZER = "vacuum.atlas-sites.io/outcome"
OUTAGE_SECONDS = 15.0
AT_ONCE = 8
IN_A_HURRY = "in a hurry"
WORK = f"{HELD}; echo whole"


def busy(stage: Stage, name: str, *scripts: str, **more: object) -> Told:
    """A set all of whose startds have a job."""
    startds = stage.startds(name, pods=len(scripts), **more)  # type: ignore[arg-type]
    jobs = tuple(startds.submit(script) for script in scripts)
    for job in jobs:
        job.runs()
    return Told(startds=startds, jobs=jobs)


def drained(stage: Stage) -> Told:
    told = busy(stage, "drain", WORK, WORK)
    told.startds.delete()
    for number in (1, 2):
        told.startds.drains(number)
    for number in (1, 2):
        told.startds.let_go(number)
    told.startds.gone()
    return told


def orphaned(stage: Stage) -> Told:
    told = busy(stage, "orphan", WORK, deletionPolicy="Orphan")
    told.startds.delete()
    told.startds.gone()
    told.startds.let_go(1)
    told.jobs[0].ends()
    told.startds.leave(1)
    return told


def killed(stage: Stage) -> Told:
    told = busy(stage, "kill", FOREVER, deletionPolicy="Kill")
    told.startds.delete()
    told.startds.gone()
    return told


def fast(stage: Stage) -> Told:
    told = busy(stage, "fast", FOREVER, drain={"seconds": 210, "mode": "Fast"})
    told.startds.delete()
    told.startds.gone()
    return told


def in_a_hurry(stage: Stage) -> Told:
    """Somebody cannot wait for the drain that he has asked for."""
    told = busy(stage, "hurry", FOREVER, env={"DRAIN_SECONDS": "500"}, drain={"seconds": 600})
    reporter = told.startds.reporter_pid(1)
    told.startds.delete()
    told.startds.await_status(lambda status: status["state"] == "Draining", "it drains")
    told.startds.change(deletionPolicy="Kill")
    told.startds.gone()
    # Kubelets do not shorten a grace that runs already; the set does not wait for them, nor need this machine.
    with contextlib.suppress(ProcessLookupError):
        os.kill(reporter, signal.SIGKILL)
    return told


STORIES: Mapping[str, Callable[[Stage], Told]] = {
    IN_A_HURRY: in_a_hurry,
    "fast": fast,
    "drained": drained,
    "orphaned": orphaned,
    "killed": killed,
}
Stories = Mapping[str, Future[Told]]


@pytest.fixture(scope="module")
def stories(stage: Stage) -> Iterator[Stories]:
    """All stories, under way."""
    with under_way(stage, STORIES, AT_ONCE) as stories:
        yield stories


def whole(job: Job) -> bool:
    """It came to its own end, on the first startd that had it."""
    return (job.ends(), job.output(), job.starts) == (0, "whole\n", 1)


def graces(startds: Startds, number: int) -> list[int]:
    """The seconds that the pod was given to end, each time that they changed."""
    seen = [pod["metadata"].get("deletionGracePeriodSeconds") for pod in startds.pod_versions(number)]
    return [grace for last, grace in zip([None, *seen], seen, strict=False) if grace is not None and grace != last]


def test_a_set_that_is_deleted_waits_for_the_jobs_of_its_startds(stories: Stories) -> None:
    told = stories["drained"].result()
    assert all(whole(job) for job in told.jobs)
    last = told.startds.statuses[-1]
    assert last["state"] == "Draining"
    assert sum(last["outcomes"].values()) == 2
    assert last["startds"]["total"] == 0


def test_orphans_end_their_jobs_and_themselves_and_are_counted_by_nobody(stage: Stage, stories: Stories) -> None:
    told = stories["orphaned"].result()
    running = told.startds.pod(1, lambda pod: "ownerReferences" not in pod["metadata"], "is nobody's")
    assert running["status"]["phase"] == "Running"
    assert OUTCOME_FINALIZER not in running["metadata"].get("finalizers", ())
    assert "deletionTimestamp" not in running["metadata"]
    assert whole(told.jobs[0])
    stage.kubectl("wait", "pod", told.startds.pod_name(1), "--for=delete", BOUND)
    assert told.startds.last_word(1)["code"] == 200


def test_with_kill_the_set_waits_for_nothing(stories: Stories) -> None:
    told = stories["killed"].result()
    assert graces(told.startds, 1)[0] == 1
    assert not told.jobs[0].ended


def test_with_fast_a_startd_gets_a_minute_at_most(stories: Stories) -> None:
    told = stories["fast"].result()
    assert graces(told.startds, 1)[0] == FAST_SECONDS
    assert not told.jobs[0].ended
    assert sum(told.startds.statuses[-1]["outcomes"].values()) == 1


def settled(stories: Stories) -> None:
    """Waits for the stories that play while there is a controller; the last one waits for a kubelet, for minutes."""
    wait(story for name, story in stories.items() if name != IN_A_HURRY)


@contextmanager
def without_controller(stage: Stage) -> Iterator[None]:
    """Nobody controls anything meanwhile."""
    replicas = stage.kubectl("get", CONTROLLER, "-o", "jsonpath={.spec.replicas}")
    stage.kubectl("scale", CONTROLLER, "--replicas=0")
    try:
        stage.kubectl("wait", "pod", "-l", "app.kubernetes.io/name=vacuum", "--for=delete", BOUND)
        yield
    finally:
        stage.kubectl("scale", CONTROLLER, f"--replicas={replicas}")
        stage.kubectl("rollout", "status", CONTROLLER, BOUND)


def test_a_set_that_is_deleted_while_the_controller_is_away_stays_until_it_is_back(
    stage: Stage, stories: Stories
) -> None:
    settled(stories)
    told = busy(stage, "away", WORK)
    with without_controller(stage):
        told.startds.delete()
        told.startds.let_go(1)
        assert whole(told.jobs[0])  # its startd was not touched
        meta = told.startds.latest["metadata"]
        assert "deletionTimestamp" in meta
        assert meta["finalizers"] == [SET_FINALIZER]
        assert not told.startds.is_gone
    told.startds.gone()
    assert sum(told.startds.statuses[-1]["outcomes"].values()) == 1


@contextmanager
def without_api_server() -> Iterator[None]:
    """It hangs, as behind a network that swallows packets."""
    process = processes.recorded(this_machine().processes / "apiserver")
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_nothing_is_lost_when_the_api_server_hangs_during_a_drain(stage: Stage, stories: Stories) -> None:
    settled(stories)
    told = busy(stage, "hangs", WORK, WORK)
    told.startds.delete()
    for number in (1, 2):
        told.startds.drains(number)
    with without_api_server():
        time.sleep(OUTAGE_SECONDS)
        for number in (1, 2):
            told.startds.let_go(number)
    told.startds.gone()
    assert all(whole(job) for job in told.jobs)
    assert sum(told.startds.statuses[-1]["outcomes"].values()) == 2
    assert not told.startds.pod_versions(3)  # none was made anew


def test_a_drain_that_lasts_too_long_for_somebody_becomes_a_kill(stories: Stories) -> None:
    told = stories[IN_A_HURRY].result()
    first, *others = graces(told.startds, 1)
    assert first == told.startds.stage.sets.of(told.startds.name)[0]["spec"]["drain"]["seconds"]
    assert others[0] <= 1
    assert not told.jobs[0].ended
