"""How a startd of the real pool leaves that has a payload: told by whom it may be, the payload ends first.

The stories play at once, each on a small set of its own beside the site's; the one that takes the node comes last.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest

from tests.cluster.cluster import BOUND
from tests.cluster.stage import HELD, LIFETIME, REQUESTED, Json, Stage, Startds, Told, under_way

pytestmark = pytest.mark.cluster

LIFETIME_SECONDS = 100  # time enough to join the pool and to get a job
NODE = "atlas-local"
AT_ONCE = 8


def newer(startds: Startds) -> Json:
    """The set's template with something new in it."""

    def change(template: Json) -> None:
        template["metadata"]["labels"]["edition"] = "second"

    return startds.stage.template(startds.name, {}, {}, change)


def changed_on_finish(stage: Stage) -> Told:
    startds = stage.startds("onfinish", window={"initial": 2, "maximum": 2}, update="OnFinish")
    job = startds.submit(HELD)
    job.runs()
    startds.change(template=newer(startds), limits={"pods": 2})
    other = startds.submit("sleep 1")
    other.ends()
    startds.let_go(1)
    job.ends()
    startds.leave(1)
    startds.outcome(1)
    return Told(startds=startds, jobs=(job, other))


def changed_with_drain(stage: Stage) -> Told:
    startds = stage.startds("update", update="Drain")
    job = startds.submit(HELD)
    job.runs()
    other = startds.submit("sleep 1")
    startds.change(template=newer(startds))
    startds.drains(1)
    startds.let_go(1)
    other.ends()
    return Told(startds=startds, jobs=(job, other))


def retired_when_idle(stage: Stage) -> Told:
    startds = stage.startds("idle", env={"NOCLAIM_SECONDS": "600"}, fizzleSeconds=700)
    startds.known(1)
    stage.kubectl("annotate", "pod", startds.pod_name(1), f"{REQUESTED}=peaceful")
    startds.outcome(1)
    return Told(startds=startds)


def lifetime_over(stage: Stage) -> Told:
    patience = LIFETIME_SECONDS * 3 // 4
    startds = stage.startds(
        "lifetime",
        env={"NOCLAIM_SECONDS": str(patience)},
        fizzleSeconds=patience + 10,
        lifetimeSeconds=LIFETIME_SECONDS,
    )
    job = startds.submit(HELD)
    job.runs()
    other = startds.submit("sleep 1")
    startds.drains(1)
    startds.let_go(1)
    other.ends()
    return Told(startds=startds, jobs=(job, other))


def time_is_up(stage: Stage) -> Told:
    """A payload that does not end though it is told to."""
    startds = stage.startds("deaf", env={"DRAIN_SECONDS": "40"}, drain={"seconds": 160})
    deaf = """trap 'echo "told to end"' TERM; echo begun; touch /tmp/begun; while :; do sleep 1; done"""
    job = startds.submit(deaf, "stream_output = True")
    job.runs()
    startds.made(1, "tmp/begun")
    startds.change(limits={"pods": 0})
    stage.kubectl("delete", "pod", startds.pod_name(1), "--wait=false")
    job.is_taken_away()
    startds.outcome(1)
    return Told(startds=startds, jobs=(job,))


def heeds(stage: Stage) -> Told:
    """A payload that ends soon when it is told to, and that only the next startd brings to its end."""
    startds = stage.startds("heeds", env={"DRAIN_SECONDS": "40"}, drain={"seconds": 160})
    job = startds.submit(
        "case $(cat /etc/hostname) in *-1) trap 'exit 0' TERM; touch /tmp/begun; while :; do sleep 1; done;;"
        " *) echo whole;; esac"
    )
    job.runs()
    startds.made(1, "tmp/begun")
    stage.kubectl("delete", "pod", startds.pod_name(1), "--wait=false")
    job.ends()
    startds.outcome(1)
    return Told(startds=startds, jobs=(job,))


STORIES: Mapping[str, Callable[[Stage], Told]] = {
    "update drain": changed_with_drain,
    "lifetime": lifetime_over,
    "update on finish": changed_on_finish,
    "retired": retired_when_idle,
    "deaf": time_is_up,
    "heeds": heeds,
}
Stories = Mapping[str, Future[Told]]


@pytest.fixture(scope="module")
def stories(stage: Stage) -> Iterator[Stories]:
    """All stories, under way."""
    with under_way(stage, STORIES, AT_ONCE) as stories:
        yield stories


def asked(startds: Startds, number: int) -> str | None:
    """What the pod was asked by its annotation, if anything."""
    return next(
        (
            str(pod["metadata"]["annotations"][REQUESTED])
            for pod in startds.pod_versions(number)
            if REQUESTED in pod["metadata"].get("annotations", {})
        ),
        None,
    )


def deleted_alive(startds: Startds, number: int) -> bool:
    """Whether somebody deleted the pod before its startd had ended by itself."""
    return any(
        "deletionTimestamp" in pod["metadata"] and pod["status"]["phase"] not in {"Succeeded", "Failed"}
        for pod in startds.pod_versions(number)
    )


def edition(startds: Startds, number: int) -> str | None:
    label: str | None = startds.pod(number)["metadata"]["labels"].get("edition")
    return label


def test_a_new_template_leaves_the_startds_of_the_old_one_alone_and_new_ones_have_it(stories: Stories) -> None:
    told = stories["update on finish"].result()
    startds, (job, other) = told.startds, told.jobs
    assert (job.ends(), job.starts, job.host()) == (0, 1, startds.pod_name(1))
    assert (other.ends(), other.host()) == (0, startds.pod_name(2))
    assert (edition(startds, 1), edition(startds, 2)) == (None, "second")
    assert asked(startds, 1) is None
    assert not deleted_alive(startds, 1)
    assert startds.outcome(1)["class"] == "Worked"


def test_with_update_drain_the_old_startd_ends_its_job_takes_no_other_and_makes_room(stories: Stories) -> None:
    told = stories["update drain"].result()
    startds, (job, other) = told.startds, told.jobs
    assert (job.ends(), job.starts, job.host()) == (0, 1, startds.pod_name(1))
    assert (other.ends(), other.starts, other.host()) == (0, 1, startds.pod_name(2))
    assert (edition(startds, 1), edition(startds, 2)) == (None, "second")
    assert asked(startds, 1) == "peaceful"
    assert not deleted_alive(startds, 1)
    assert (startds.outcome(1)["class"], startds.outcome(1)["code"]) == ("Worked", 200)


def test_a_startd_whose_lifetime_ends_while_it_is_busy_ends_its_job_and_takes_no_other(stories: Stories) -> None:
    told = stories["lifetime"].result()
    startds, (job, other) = told.startds, told.jobs
    lifetime = int(startds.pod(1)["metadata"]["annotations"][LIFETIME])
    assert 0.9 * LIFETIME_SECONDS <= lifetime <= LIFETIME_SECONDS
    assert (job.ends(), job.starts, job.host()) == (0, 1, startds.pod_name(1))
    assert (other.ends(), other.starts, other.host()) == (0, 1, startds.pod_name(2))
    assert not deleted_alive(startds, 1)
    assert (startds.outcome(1)["class"], startds.outcome(1)["code"]) == ("Worked", 200)


def test_an_idle_startd_that_a_person_lets_go_leaves_and_nobody_learns_from_it(stories: Stories) -> None:
    startds = stories["retired"].result().startds
    assert (startds.outcome(1)["class"], startds.outcome(1)["code"]) == ("Requested", 100)
    assert not deleted_alive(startds, 1)
    after = startds.after(1)
    assert (after["circuit"]["state"], after["circuit"]["level"], after["creating"]) == ("Closed", 0, [2])


def test_a_payload_is_told_before_the_time_for_the_drain_is_over_and_then_taken_away(stories: Stories) -> None:
    told = stories["deaf"].result()
    startds, (job,) = told.startds, told.jobs
    assert job.output().splitlines() == ["begun", "told to end"]
    assert startds.outcome(1)["class"] == "Disrupted"
    assert startds.last_word(1)["code"] == 100
    assert startds.last_word(1)["lostWorkSeconds"] > 0
    assert startds.last_word(1)["cpuSeconds"] > 0
    assert startds.after(1)["circuit"]["state"] == "Closed"


def test_a_payload_that_ends_when_it_is_told_to_is_run_again_elsewhere(stories: Stories) -> None:
    told = stories["heeds"].result()
    startds, (job,) = told.startds, told.jobs
    assert (job.ends(), job.output(), job.starts, job.host()) == (0, "whole\n", 2, startds.pod_name(2))
    assert (startds.outcome(1)["class"], startds.outcome(1)["code"]) == ("Disrupted", 100)
    assert startds.after(1)["circuit"] == {"state": "Closed", "level": 0}


def test_autoscalers_are_told_to_leave_startds_alone(stories: Stories) -> None:
    annotations = stories["heeds"].result().startds.pod(1)["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


def test_kubectl_drain_waits_for_the_job_and_the_set_goes_on_when_the_node_is_back(
    stage: Stage, stories: Stories
) -> None:
    wait(stories.values())  # they need the node
    startds = stage.startds("node", pods=1)
    job = startds.submit(f"{HELD}; echo whole")
    job.runs()
    others = f"--pod-selector=vacuum.atlas-sites.io/set={startds.name}"
    words = ("drain", NODE, others, "--delete-emptydir-data", "--ignore-daemonsets", BOUND)
    try:
        with ThreadPoolExecutor() as somebody:
            drained = somebody.submit(stage.kubectl, *words)
            startds.drains(1)
            assert not drained.done()
            startds.let_go(1)
            drained.result()
        # It did not come back before the job had ended.
        assert (job.ends(), job.output(), job.starts) == (0, "whole\n", 1)
        assert startds.after(1)["creating"] == []
        assert {"name": "nodes", "startds": 0} in [
            {"name": bound["name"], "startds": bound.get("startds")} for bound in startds.after(1)["bounds"]
        ]
    finally:
        stage.kubectl("uncordon", NODE)
    startds.runs(2)  # nobody has backed off
    outcome = startds.outcome(1)
    assert (outcome["class"], outcome["reason"]) == ("Disrupted", "EvictionByEvictionAPI")
    assert startds.after(1)["circuit"] == {"state": "Closed", "level": 0}
