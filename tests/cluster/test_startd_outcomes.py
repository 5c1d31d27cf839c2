"""What becomes of a startd in the real pool, class by class, and what the vacuum controller does next.

All stories play at once, each on a small set of its own beside the site's.
"""

import json
import os
import platform
import signal
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future

import pytest

from tests.cluster.stage import BACKOFF_SECONDS, FOREVER, HELD, Json, Stage, Startds, posix, under_way

pytestmark = pytest.mark.cluster

# What a pilot's wrapper says when its pilot found the queue empty, and a pilot as soon as it has a payload.
NO_PAYLOAD = "echo 'File not found: /srv/pandaIDs.out, no payload'"
GOT_PAYLOAD = "echo 'received job: 6123456789 (sleep until the job has finished)'"
# So many stories at a time: startds that begin together are slow on a small machine.
AT_ONCE = 7
# What a startd itself tries when it begins.
MAKE_CONTAINER = "python3 /opt/atlas-sites/reporter/nested.py $PWD /cvmfs"
# As a pilot starts its payload: Apptainer and an unpacked image from the software, its wrapper's and its own options.
CONTAINERS = "/cvmfs/software.atlas-sites.example/repo/containers"
APPTAINER = f"{CONTAINERS}/sw/apptainer/{platform.machine()}-el9/current/bin/apptainer"
IMAGE = f"{CONTAINERS}/fs/singularity/{platform.machine()}-almalinux9"
EXEC = f"{APPTAINER} --silent exec --contain --ipc --cleanenv -B /cvmfs -B $PWD"
MANY = 30


def worked(stage: Stage) -> Startds:
    startds = stage.startds("worked")
    startds.submit("sleep 2")
    startds.outcome(1)
    return startds


def never_claimed(stage: Stage) -> Startds:
    # The one story that lasts until the probe, and the probe's end.
    startds = stage.startds("unclaimed", env={"NOCLAIM_SECONDS": "60"}, backoff={"baseSeconds": 15, "capSeconds": 40})
    startds.outcome(2)
    return startds


def empty_pilot(stage: Stage) -> Startds:
    startds = stage.startds("empty")
    startds.submit(NO_PAYLOAD).ends()
    startds.leave(1)
    startds.outcome(1)
    return startds


def fails(code: int) -> Callable[[Stage], Startds]:
    """A payload that fails at once with that exit code."""

    def play(stage: Stage) -> Startds:
        startds = stage.startds(f"exit{code}")
        startds.submit(f"exit {code}").ends()
        startds.leave(1)
        startds.outcome(1)
        return startds

    return play


def fails_twice(stage: Stage) -> Startds:
    """Two startds whose payloads fail one after the other."""
    startds = stage.startds("two", pods=2)
    first, second = startds.submit("exit 1", on=1), startds.submit(f"{HELD}; exit 1", on=2)
    first.ends()
    second.runs()
    startds.leave(1)
    startds.outcome(1)
    startds.let_go(2)
    second.ends()
    startds.leave(2)
    startds.outcome(2)
    return startds


def eats_jobs(stage: Stage) -> Startds:
    """More jobs than a startd that fails them all at once may have."""
    startds = stage.startds("eater")
    startds.submit("exit 1", f"queue {MANY - 1}")
    startds.outcome(1)
    return startds


def software_missing(stage: Stage) -> Startds:
    missing = {"REPOSITORIES": "missing.atlas-sites.example", "SOFTWARE_SECONDS": "3"}
    startds = stage.startds("software", init_env=missing)
    startds.outcome(1)
    return startds


def image_missing(stage: Stage) -> Startds:
    def change(template: Json) -> None:
        template["spec"]["containers"][0].update(image="localhost/none:none", imagePullPolicy="Never")

    startds = stage.startds("image", change=change, startSeconds=10)
    startds.outcome(1)
    return startds


def makes_a_container(stage: Stage) -> Startds:
    """A payload that does what Apptainer does, on a startd that says that it can."""
    startds = stage.startds("container")
    wanted = f'SiteName == "{startds.name}" && HasUserNamespaces'
    job = stage.submit(wanted, f"{MAKE_CONTAINER} && unshare --user --map-root-user --mount true && echo made")
    assert (job.ends(), job.output()) == (0, "made\n")
    startds.leave(1)
    startds.outcome(1)
    return startds


def runs_in_apptainer(stage: Stage) -> Startds:
    """A payload that is started in an image by Apptainer as a pilot does it, and one that HTCondor itself starts so."""
    startds = stage.startds("apptainer")
    wanted = f'SiteName == "{startds.name}" && HasSingularity'
    given = "mkdir data && echo given > data/given"
    seen = f"grep ^ID= /etc/os-release; cat /data/given; echo written > /data/written; ls {CONTAINERS}"
    script = f"{given} && {EXEC} -B $PWD/data:/data {IMAGE} sh -c '{seen}' && cat data/written"
    job = stage.submit(wanted, script)
    assert (job.ends(), job.output()) == (0, "ID=unpacked\ngiven\nfs\nsw\nwritten\n")
    by_htcondor = f"universe = container\ncontainer_image = {IMAGE}/\ntransfer_container = False"
    job = stage.submit(wanted, "cat /etc/os-release", by_htcondor)
    assert (job.ends(), job.output().splitlines()[-1]) == (0, "ID=unpacked")
    startds.leave(1)
    startds.outcome(1)
    return startds


def under(profile: Json) -> Callable[[Json], None]:
    """A template whose startd has another seccomp profile than the site's."""

    def change(template: Json) -> None:
        template["spec"]["containers"][0]["securityContext"]["seccompProfile"] = profile

    return change


def makes_none(stage: Stage) -> Startds:
    """The same payload under the runtime's own profile, where nobody has promised anything."""
    startds = stage.startds("plain", env={"PAYLOAD_CONTAINERS": "none"}, change=under({"type": "RuntimeDefault"}))
    wanted = f'SiteName == "{startds.name}" && HasUserNamespaces =?= False && HasSingularity =?= False'
    job = stage.submit(wanted, f"! {MAKE_CONTAINER} && ! {EXEC} {IMAGE} true 2>&1")
    assert (job.ends(), job.output().splitlines()[0]) == (0, "unshare 1")
    assert "Failed to create user namespace: not allowed to create user namespace" in job.output()
    startds.leave(1)
    startds.outcome(1)
    return startds


def promise_broken(stage: Stage) -> Startds:
    startds = stage.startds("promise", change=under({"type": "RuntimeDefault"}))
    startds.outcome(1)
    return startds


def apptainer_fails(stage: Stage) -> Startds:
    """Apptainer is told to make a process namespace too, which takes a /proc of its own."""
    startds = stage.startds("pid", env={"APPTAINER_PID": "1"})
    startds.outcome(1)
    return startds


def profile_missing(stage: Stage) -> Startds:
    absent = {"type": "Localhost", "localhostProfile": "atlas-sites/none.json"}
    startds = stage.startds("profile", change=under(absent))
    startds.pod(1, refused, "is refused by the kubelet")
    startds.change(startSeconds=1)
    startds.outcome(1)
    return startds


def with_token(stage: Stage, name: str, token: str) -> Startds:
    """A set whose only credential is that token."""
    there = json.loads(stage.kubectl("get", "secret", "proxy", "-o", "json"))["data"]
    secret = f"{name}-{stage.run}"
    data = {"ca.pem": there["ca.pem"], "token": b64encode(token.encode()).decode()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "data": data}
    stage.kubectl("create", "-f", "-", stdin=json.dumps(body))

    def change(template: Json) -> None:
        volume = next(volume for volume in template["spec"]["volumes"] if volume["name"] == "credentials")
        volume["secret"]["secretName"] = secret

    startds = stage.startds(name, change=change)
    startds.outcome(1)
    stage.kubectl("delete", "secret", secret)
    return startds


def wrong_token(stage: Stage) -> Startds:
    data = stage.kubectl("get", "secret", "proxy", "-o", "jsonpath={.data.token}")
    head, claims, _ = b64decode(data).decode().strip().split(".")
    return with_token(stage, "forged", f"{head}.{claims}.{'A' * 43}")


def unwelcome(stage: Stage) -> Startds:
    create = ("condor_token_create", "-identity", "stranger@pool.atlas-sites.example", "-lifetime", "3600")
    return with_token(stage, "stranger", stage.in_pool(*create).strip())


def out_of_memory(stage: Stage) -> Startds:
    startds = stage.startds("memory")
    job = startds.submit("""exec python3 -c 'import time; held = b"x" * 10**9; time.sleep(36000)'""")
    job.runs()
    startds.outcome(1)
    return startds


def out_of_disk(stage: Stage) -> Startds:
    def change(template: Json) -> None:
        volume = next(volume for volume in template["spec"]["volumes"] if volume["name"] == "scratch")
        volume["emptyDir"]["sizeLimit"] = "128Mi"

    startds = stage.startds("disk", change=change, env={"DISK_MIB": "128"})
    startds.submit(f"dd if=/dev/zero of=big bs=1M count=200; {FOREVER}").runs()
    startds.outcome(1)
    return startds


def told_to_stop(stage: Stage) -> Startds:
    startds = stage.startds("sigterm")
    job = startds.submit(f"{HELD}; echo whole")
    job.runs()
    stage.kubectl("delete", "pod", startds.pod_name(1), "--wait=false")
    startds.drains(1)
    startds.let_go(1)
    startds.outcome(1)
    assert job.ends() == 0
    assert job.output() == "whole\n"
    assert job.starts == 1
    return startds


def killed(stage: Stage) -> Startds:
    startds = stage.startds("sigkill")
    startds.submit(f"{GOT_PAYLOAD}; {FOREVER}").runs()
    startds.ready(1)
    startds.await_status(lambda status: 1 in status.get("proven", ()), "the proof is counted")
    stage.kubectl("delete", "pod", startds.pod_name(1), "--grace-period=0", "--force", "--wait=false")
    startds.outcome(1)
    return startds


def died(stage: Stage) -> Startds:
    startds = stage.startds("died")
    startds.submit(FOREVER).runs()
    os.kill(startds.reporter_pid(1), signal.SIGKILL)
    startds.outcome(1)
    return startds


def evicted(stage: Stage) -> Startds:
    startds = stage.startds("evicted")
    job = startds.submit(HELD)
    job.runs()
    name = startds.pod_name(1)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "dev"}}
    place = f"/api/v1/namespaces/dev/pods/{name}/eviction"
    stage.kubectl("create", "--raw", place, "-f", "-", stdin=json.dumps(body))
    startds.drains(1)
    startds.let_go(1)
    startds.outcome(1)
    assert job.ends() == 0
    assert job.starts == 1
    return startds


STORIES: Mapping[str, Callable[[Stage], Startds]] = {
    # Those that wait for a startd's patience to end.
    "never claimed": never_claimed,
    "worked": worked,
    "out of memory": out_of_memory,
    "forged token": wrong_token,
    "unwelcome": unwelcome,
    "out of disk": out_of_disk,
    "told to stop": told_to_stop,
    "empty pilot": empty_pilot,
    "fails twice": fails_twice,
    "eats jobs": eats_jobs,
    **{f"exit {code}": fails(code) for code in (1, 74, 75, 78)},
    "killed": killed,
    "died": died,
    "evicted": evicted,
    "software missing": software_missing,
    "image missing": image_missing,
    "makes a container": makes_a_container,
    "runs in Apptainer": runs_in_apptainer,
    "makes none": makes_none,
    "promise broken": promise_broken,
    "Apptainer fails": apptainer_fails,
    "profile missing": profile_missing,
}
Told = Mapping[str, Future[Startds]]


@pytest.fixture(scope="module")
def told(stage: Stage) -> Iterator[Told]:
    """All stories, under way; the longest begin first."""
    with under_way(stage, STORIES, AT_ONCE) as stories:
        yield stories


def summary(startds: Startds, number: int = 1) -> tuple[str, str, int | None]:
    entry = startds.outcome(number)
    return entry["class"], entry["reason"], entry.get("code")


def box(pod: Json) -> Json:
    """What is said of the pod's startd; of its container, while there is none yet, nothing."""
    return next(iter(pod["status"].get("containerStatuses", ())), {"state": {}})


def refused(pod: Json) -> bool:
    """The kubelet tries again and again to make the container, and cannot."""
    return bool(box(pod)["state"].get("waiting", {}).get("reason") == "CreateContainerError")


def replaced_at_once(startds: Startds, number: int = 1) -> bool:
    """The turn that counted the startd made another, and nobody waits for anything."""
    status = startds.after(number)
    print(json.dumps(status))  # why not, if it is not so
    return (status["circuit"], status["creating"]) == ({"state": "Closed", "level": 0}, [number + 1])


def backs_off(startds: Startds, factor: int, number: int = 1) -> bool:
    """The turn that counted the startd opened the circuit, for as long as such a failure asks for."""
    status = startds.after(number)
    if (status["circuit"]["state"], status["state"], status["creating"]) != ("Open", "BackingOff", []):
        return False
    # When it was counted, the pause began: after the startd's end, and before anybody heard of it.
    until, pause = posix(status["circuit"]["until"]), factor * BACKOFF_SECONDS
    ended, heard = posix(startds.outcome(number)["at"]), startds.heard(number)
    return bool(until - ended >= 0.85 * pause - 1 and until - heard <= 1.15 * pause + 1)


def test_a_startd_whose_payload_did_well_worked_and_the_next_one_comes_at_once(told: Told) -> None:
    startds = told["worked"].result()
    assert summary(startds) == ("Worked", "Worked", 200)
    assert startds.after(1)["outcomes"] == {"Worked": 1}
    assert startds.was_ready(1)
    assert replaced_at_once(startds)


def test_a_startd_that_nobody_claims_found_no_work_and_one_tries_again_after_the_back_off(told: Told) -> None:
    startds = told["never claimed"].result()
    assert summary(startds) == ("NoWork", "NeverClaimed", 300)
    assert startds.after(1)["outcomes"] == {"NoWork": 1}
    assert not startds.was_ready(1)
    circuit = startds.after(1)["circuit"]
    assert (circuit["state"], circuit["level"]) == ("Open", 1)
    assert startds.after(1)["creating"] == []
    # The probe: not before its time, and if it finds nothing either, the next one comes later still.
    assert posix(startds.pod(2)["metadata"]["creationTimestamp"]) >= posix(circuit["until"]) - 1
    assert startds.before(2)["circuit"]["state"] == "HalfOpen"
    assert startds.after(2)["outcomes"] == {"NoWork": 2}
    assert (startds.after(2)["circuit"]["state"], startds.after(2)["circuit"]["level"]) == ("Open", 2)


def test_a_pilot_without_a_payload_is_no_proof_of_work(told: Told) -> None:
    startds = told["empty pilot"].result()
    assert summary(startds) == ("NoWork", "EmptyPilots", 300)
    assert not startds.was_ready(1)
    assert startds.after(1)["outcomes"] == {"NoWork": 1}
    assert backs_off(startds, 1)


@pytest.mark.parametrize(
    ("exit_code", "what", "code", "factor"),
    [
        (1, "SiteFault", 500, 1),  # a program that works elsewhere and ends at once here
        (75, "SiteFault", 500, 1),
        (74, "GridFault", 600, 3),
        (78, "Banned", 400, 6),
    ],
)
def test_a_payload_that_fails_at_once_is_a_fault_and_the_back_off_is_as_long_as_whose_it_is(
    told: Told, exit_code: int, what: str, code: int, factor: int
) -> None:
    startds = told[f"exit {exit_code}"].result()
    assert summary(startds) == (what, "JobsFailed", code)
    assert startds.after(1)["outcomes"] == {what: 1}
    assert not startds.was_ready(1)
    assert backs_off(startds, factor)


def test_the_first_failure_halves_the_window_and_the_last_one_that_it_lets_be_opens_the_circuit(told: Told) -> None:
    startds = told["fails twice"].result()
    assert startds.before(1)["window"] == 2
    halved = startds.after(1)
    assert (halved["window"], halved["circuit"]["state"], halved["creating"]) == (1, "Closed", [])
    assert halved["outcomes"] == {"SiteFault": 1}
    assert startds.after(2)["outcomes"] == {"SiteFault": 2}
    assert backs_off(startds, 1, number=2)


def test_a_startd_that_fails_one_job_after_the_other_leaves_the_rest_of_the_queue_alone(told: Told) -> None:
    startds = told["eats jobs"].result()
    assert summary(startds) == ("SiteFault", "JobsFailed", 500)
    assert 3 <= startds.last_word(1)["jobsFailed"] < MANY  # some more begin before the third is known to have failed
    assert backs_off(startds, 1)


def test_a_node_without_the_software_is_the_sites_fault_by_name(told: Told) -> None:
    startds = told["software missing"].result()
    assert summary(startds) == ("SiteFault", "SoftwareMissing", 500)
    assert startds.after(1)["outcomes"] == {"SiteFault": 1}
    assert backs_off(startds, 1)


def test_a_startd_that_does_not_begin_in_time_is_stopped_and_the_sites_fault(told: Told) -> None:
    startds = told["image missing"].result()
    assert summary(startds)[:2] == ("SiteFault", "StartError")
    assert startds.after(1)["outcomes"] == {"SiteFault": 1}
    assert backs_off(startds, 1)


def test_a_payload_starts_a_container_where_the_startd_says_that_it_can(told: Told) -> None:
    startds = told["makes a container"].result()
    assert summary(startds) == ("Worked", "Worked", 200)


def test_a_payload_runs_in_an_image_by_apptainer_from_cvmfs_as_pilots_start_it_and_by_htcondor(told: Told) -> None:
    startds = told["runs in Apptainer"].result()
    assert summary(startds) == ("Worked", "Worked", 200)


def test_under_the_runtimes_own_profile_a_startd_says_that_no_payload_can_start_a_container(told: Told) -> None:
    startds = told["makes none"].result()
    assert summary(startds) == ("Worked", "Worked", 200)


def test_a_startd_that_cannot_keep_what_the_site_promises_of_containers_leaves_as_the_sites_fault(told: Told) -> None:
    startds = told["promise broken"].result()
    assert summary(startds) == ("SiteFault", "NoUserNamespaces", 500)
    said = startds.pod(1, lambda pod: "terminated" in box(pod)["state"], "has ended")
    assert box(said)["state"]["terminated"]["message"].splitlines()[0] == (
        "500 payloads cannot start containers, unshare: Operation not permitted, for the container's seccomp profile "
        "does not allow it; see docs/runbooks/payload-containers.md"
    )
    assert startds.after(1)["outcomes"] == {"SiteFault": 1}
    assert backs_off(startds, 1)


def test_a_startd_whose_apptainer_does_not_start_the_image_says_so_in_its_words_and_leaves_as_the_sites_fault(
    told: Told,
) -> None:
    startds = told["Apptainer fails"].result()
    assert summary(startds) == ("SiteFault", "ApptainerFailed", 500)
    said = startds.pod(1, lambda pod: "terminated" in box(pod)["state"], "has ended")
    assert box(said)["state"]["terminated"]["message"].splitlines()[0] == (
        f"500 payloads cannot start containers, {APPTAINER}: container creation failed: mount hook function failure: "
        "mount proc->/proc error: while mounting proc: can't mount proc filesystem to /proc: operation not permitted; "
        "see docs/runbooks/payload-containers.md"
    )
    assert backs_off(startds, 1)


def test_on_a_node_without_the_profile_the_kubelet_names_it_and_the_startd_is_stopped_as_the_sites_fault(
    told: Told,
) -> None:
    startds = told["profile missing"].result()
    pod = startds.pod(
        1, lambda pod: box(pod)["state"].get("waiting", {}).get("reason") == "CreateContainerError", "waits"
    )
    assert "atlas-sites/none.json" in box(pod)["state"]["waiting"]["message"]
    assert summary(startds)[:2] == ("SiteFault", "StartError")
    assert startds.after(1)["outcomes"] == {"SiteFault": 1}
    assert backs_off(startds, 1)


def test_a_token_that_the_pool_does_not_believe_is_the_sites_fault(told: Told) -> None:
    startds = told["forged token"].result()
    assert summary(startds) == ("SiteFault", "NotAuthenticated", 500)
    assert startds.after(1)["outcomes"] == {"SiteFault": 1}
    assert backs_off(startds, 1)


def test_a_startd_that_the_pool_knows_and_turns_away_is_banned(told: Told) -> None:
    startds = told["unwelcome"].result()
    assert summary(startds) == ("Banned", "NotAuthorized", 400)
    assert startds.after(1)["outcomes"] == {"Banned": 1}
    assert backs_off(startds, 6)


def test_a_startd_that_ran_out_of_memory_is_the_sites_fault(told: Told) -> None:
    startds = told["out of memory"].result()
    assert summary(startds)[:2] == ("SiteFault", "OOMKilled")
    assert startds.after(1)["outcomes"] == {"SiteFault": 1}
    assert backs_off(startds, 1)


def test_a_startd_whose_payload_took_more_disk_than_it_was_offered_is_evicted_and_not_counted_against_the_site(
    told: Told,
) -> None:
    startds = told["out of disk"].result()
    assert summary(startds)[:2] == ("Transient", "Evicted")
    assert startds.after(1)["outcomes"] == {"Transient": 1}
    assert replaced_at_once(startds)


def test_a_startd_that_is_told_to_stop_lets_its_job_end_and_worked(told: Told) -> None:
    startds = told["told to stop"].result()
    assert summary(startds) == ("Worked", "Worked", 200)
    assert startds.after(1)["outcomes"] == {"Worked": 1}
    assert replaced_at_once(startds)


def test_a_proven_startd_that_is_killed_was_taken_away_and_is_replaced_without_any_back_off(told: Told) -> None:
    startds = told["killed"].result()
    assert summary(startds)[:2] == ("Disrupted", "Deleted")
    assert startds.after(1)["outcomes"] == {"Disrupted": 1}
    assert startds.after(1)["owed"] == 1
    assert replaced_at_once(startds)


def test_a_startd_that_died_without_a_word_while_busy_is_nobodys_fault_for_once(told: Told) -> None:
    startds = told["died"].result()
    assert summary(startds) == ("Transient", "Died", 700)
    assert startds.after(1)["outcomes"] == {"Transient": 1}
    assert replaced_at_once(startds)


def test_an_evicted_startd_lets_its_job_end_and_is_replaced_without_any_back_off(told: Told) -> None:
    startds = told["evicted"].result()
    assert summary(startds)[:2] == ("Disrupted", "EvictionByEvictionAPI")
    assert startds.after(1)["outcomes"] == {"Disrupted": 1}
    assert replaced_at_once(startds)
