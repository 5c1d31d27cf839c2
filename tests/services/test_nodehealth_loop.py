"""The controller and the monitor on a stand-in for the API server that keeps nodes and merges patches into them."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from services.kube import Api, ConflictError, Json, Kept
from services.nodehealth import settings, software
from services.nodehealth.main import Controller
from services.nodehealth.model import CVMFS, KERNEL_MEMORY, OURS
from services.nodehealth.monitor import Monitor, Task, task_of
from services.nodehealth.objects import node_of, trimmed
from services.nodehealth.rules import Line, read
from services.times import seconds, timestamp
from services.vacuum.cluster import Cluster, Known, node_of as as_vacuum_sees_it, retiring

pytestmark = pytest.mark.fast

NOW, QUIET = 1_800_000_000.0, 1800.0
SLUB = "SLUB: Unable to allocate memory on node -1, gfp=0x6000c0(GFP_KERNEL)"
SETS = "/apis/vacuum.atlas-sites.io/v1alpha1/namespaces/here/startdsets"


def condition(kind: str, status: str, since: float = NOW - 3600, heard: float = NOW) -> Json:
    return {
        "type": kind,
        "status": status,
        "lastHeartbeatTime": timestamp(heard),
        "lastTransitionTime": timestamp(since),
    }


def node(name: str, *more: Json, labels: dict[str, str] | None = None) -> Json:
    said = {each["type"]: each for each in (condition("Ready", "True"), *(condition(kind, "False") for kind in OURS))}
    said |= {each["type"]: each for each in more}
    return {
        "metadata": {"name": name, "resourceVersion": "1", "labels": labels or {}},
        "spec": {},
        "status": {"conditions": list(said.values())},
    }


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class Server(Api):
    """Nodes and StartdSets, as an API server has them."""

    def __init__(self, *nodes: Json, blamed: list[Json] | None = None) -> None:
        self.namespace = "here"
        self.nodes = {each["metadata"]["name"]: each for each in nodes}
        self.blamed = blamed or []
        self.patches: list[tuple[str, Json]] = []

    async def list(self, path: str, keep: Callable[[Json], Kept], *, selector: str = "") -> tuple[list[Kept], str]:
        del selector
        sets = [{"metadata": {"name": "s", "resourceVersion": "1"}, "status": {"blamedNodes": self.blamed}}]
        return [keep(each) for each in (sets if path == SETS else self.nodes.values())], "1"

    async def get(self, path: str) -> Json:
        return self.nodes[path.rpartition("/")[2]]

    async def patch(self, path: str, body: Json, *, strategic: bool = False) -> Json:
        self.patches.append((path, body))
        name = path.removesuffix("/status").rpartition("/")[2]
        before = self.nodes[name]
        version = body.get("metadata", {}).get("resourceVersion", before["metadata"]["resourceVersion"])
        if version != before["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", "it has changed")
        if strategic:
            said = {each["type"]: each for each in before["status"]["conditions"]}
            said |= {each["type"]: each for each in body["status"]["conditions"]}
            body = {"status": {"conditions": list(said.values())}}
        after: Json = merged(before, body)
        after["metadata"]["resourceVersion"] = str(int(version) + 1)
        self.nodes[name] = after
        return after


def turn(server: Server, *, acts: bool = True, now: float = NOW, pools: Path = Path("/nowhere")) -> Controller:
    async def once() -> Controller:
        controller = Controller(server, acts=acts, quiet=QUIET, pools=pools, clock=lambda: now)
        await controller.look()
        await controller.turn()
        return controller

    return asyncio.run(once())


def cordoned(server: Server) -> list[str]:
    return [name for name, each in server.nodes.items() if each["spec"].get("unschedulable")]


def test_a_bad_node_gets_cordon_taint_and_reason_and_the_vacuum_controller_empties_it() -> None:
    server = Server(node("a", condition(KERNEL_MEMORY, "True")), *(node(name) for name in "bcd"))
    server.nodes["a"]["spec"]["taints"] = [{"key": "jobs", "value": "only", "effect": "NoSchedule"}]
    turn(server)
    assert cordoned(server) == ["a"]
    spec = server.nodes["a"]["spec"]
    assert [taint["key"] for taint in spec["taints"]] == ["jobs", "nodehealth.atlas-sites.io/unhealthy"]
    held = json.loads(server.nodes["a"]["metadata"]["annotations"]["nodehealth.atlas-sites.io/held"])
    assert held == {"why": KERNEL_MEMORY, "since": NOW, "until": NOW + QUIET}
    nodes = [as_vacuum_sees_it(each) for each in server.nodes.values()]
    assert retiring(Cluster(nodes=Known(value=nodes))) == {"a"}


def test_what_was_done_to_a_node_is_undone_without_a_trace_when_it_is_well() -> None:
    server = Server(node("a", condition(KERNEL_MEMORY, "True")))
    turn(server)
    server.nodes["a"]["status"]["conditions"] = node("a", condition("Ready", "True"))["status"]["conditions"]
    for each in server.nodes["a"]["status"]["conditions"]:
        each["lastHeartbeatTime"] = timestamp(NOW + QUIET)
    turn(server, now=NOW + QUIET - 1)
    assert cordoned(server) == ["a"]
    turn(server, now=NOW + QUIET)
    assert server.nodes["a"]["spec"] == {}
    assert server.nodes["a"]["metadata"]["annotations"] == {}


def test_whoever_only_reports_writes_nothing_and_shows_all() -> None:
    server = Server(node("a", condition(KERNEL_MEMORY, "True")))
    controller = turn(server, acts=False)
    assert not server.patches
    shown = generate_latest(controller.metrics.registry).decode()
    assert f'nodehealth_problem{{node="a",problem="{KERNEL_MEMORY}"}} 1.0' in shown
    assert 'nodehealth_nodes{pool="all",state="bad"} 1.0' in shown


def test_a_node_that_changed_since_it_was_judged_is_not_touched() -> None:
    server = Server(node("a", condition(KERNEL_MEMORY, "True")))

    async def late() -> None:
        controller = Controller(server, acts=True, quiet=QUIET, pools=Path("/nowhere"), clock=lambda: NOW)
        await controller.look()
        server.nodes["a"]["metadata"]["resourceVersion"] = "2"
        await controller.turn()

    asyncio.run(late())
    assert not cordoned(server)


def test_a_node_that_a_startdset_blames_is_taken_until_the_blame_ends() -> None:
    blamed = [{"name": "a", "until": timestamp(NOW + 7200), "level": 1, "reason": "SoftwareMissing"}]
    server = Server(*(node(name) for name in "abcdef"), blamed=blamed)
    turn(server)
    held = json.loads(server.nodes["a"]["metadata"]["annotations"]["nodehealth.atlas-sites.io/held"])
    assert (held["why"], held["until"]) == ("BlackHole", NOW + 7200)


def test_what_a_silent_monitor_said_last_is_no_sign_and_no_proof_of_health() -> None:
    silent = [condition(kind, "True" if kind == KERNEL_MEMORY else "False", heard=NOW - 1000) for kind in OURS]
    seen = node_of(trimmed(node("a", *silent)), "p", {}, NOW)
    assert seen.blind
    assert not seen.signs


def test_what_others_say_of_a_node_counts_once_it_has_held_for_a_while() -> None:
    for since, expected in ((NOW - 30, []), (NOW - 61, ["KernelDeadlock"])):
        seen = node_of(trimmed(node("a", condition("KernelDeadlock", "True", since=since))), "p", {}, NOW)
        assert [sign.kind for sign in seen.signs] == expected
    full = condition("DiskPressure", "True", since=NOW - 600)
    assert not node_of(trimmed(node("a", full)), "p", {}, NOW).signs


def test_nodes_of_the_control_plane_of_no_pool_and_of_a_retiring_one_are_left_alone(tmp_path: Path) -> None:
    bad = condition(KERNEL_MEMORY, "True")
    server = Server(node("a", bad, labels={"node-role.kubernetes.io/control-plane": ""}))
    turn(server)
    assert not cordoned(server)
    shape = {"max": 9, "cores": 1, "memoryMib": 1, "diskMib": 1, "pods": 1}
    pools = tmp_path / "pools.json"
    entries = [
        {"name": "jobs", "selector": {"pool": "jobs"}, **shape},
        {"name": "old", "selector": {"pool": "old"}, "retiring": True, **shape},
    ]
    pools.write_text(json.dumps(entries))
    server = Server(*(node(name, bad, labels={"pool": name}) for name in ("jobs", "old", "system")))
    turn(server, pools=pools)
    assert cordoned(server) == ["jobs"]


def test_pools_that_cannot_be_read_are_a_reason_to_do_nothing(tmp_path: Path) -> None:
    pools = tmp_path / "pools.json"
    pools.write_text("[{}]")
    server = Server(node("a", condition(KERNEL_MEMORY, "True")))
    turn(server, pools=pools)
    assert not server.patches


def test_a_mark_that_somebody_made_unreadable_lets_the_node_go() -> None:
    raw = node("a")
    raw["metadata"]["annotations"] = {"nodehealth.atlas-sites.io/held": "oops"}
    raw["spec"]["unschedulable"] = True
    server = Server(raw)
    turn(server)
    assert not cordoned(server)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def monitor(server: Server, clock: Clock, *repositories: Path) -> Monitor:
    return Monitor(server, Task(node="a", repositories=repositories, quiet=QUIET), read(), clock)


def told(server: Server, kind: str) -> tuple[str, str]:
    [said] = [each for each in server.nodes["a"]["status"]["conditions"] if each["type"] == kind]
    return said["status"], said.get("reason", "")


def test_a_monitor_writes_a_condition_when_it_changes_and_a_sign_of_life_every_five_minutes() -> None:
    server, clock = Server(node("a")), Clock()
    watcher = monitor(server, clock)
    asyncio.run(watcher.tell())
    asyncio.run(watcher.tell())
    assert len(server.patches) == 1
    watcher.hear([Line(at=NOW + number, text=SLUB) for number in range(3)])
    clock.now += 3
    asyncio.run(watcher.tell())
    assert told(server, KERNEL_MEMORY) == ("True", "SlubAllocationFailure")
    clock.now += 300
    asyncio.run(watcher.tell())
    assert len(server.patches) == 3
    [said] = [each for each in server.nodes["a"]["status"]["conditions"] if each["type"] == KERNEL_MEMORY]
    assert (seconds(said["lastHeartbeatTime"]), seconds(said["lastTransitionTime"])) == (NOW + 303, NOW + 3)
    assert (
        'problem_counter_total{reason="SlubAllocationFailure"} 3.0'
        in generate_latest(watcher.metrics.registry).decode()
    )
    assert {each["type"] for each in server.nodes["a"]["status"]["conditions"]} == OURS | {"Ready"}


def test_a_repository_that_stays_unreadable_is_a_problem_until_it_has_been_read_for_long_enough(
    tmp_path: Path,
) -> None:
    (tmp_path / "software").mkdir()
    server, clock = Server(node("a")), Clock()
    watcher = monitor(server, clock, tmp_path / "software")

    def look() -> tuple[str, str]:
        asyncio.run(watcher.look())
        asyncio.run(watcher.tell())
        return told(server, CVMFS)

    assert look()[0] == "False"
    clock.now += software.PATIENCE_SECONDS
    assert look() == ("True", "RepositoryUnreadable")
    (tmp_path / "software" / "README").write_text("x")
    assert look()[0] == "True"
    clock.now += QUIET
    assert look()[0] == "False"


def test_a_look_at_a_repository_says_what_is_the_matter_and_never_waits_for_one_that_hangs(tmp_path: Path) -> None:
    assert asyncio.run(software.look(tmp_path)).why == "it is empty"
    assert asyncio.run(software.look(tmp_path / "missing")).why == "No such file or directory"
    os.mkfifo(tmp_path / "pipe")
    assert asyncio.run(software.look(tmp_path)) == software.Seen()
    assert asyncio.run(software.look(tmp_path, seconds=0.0)).why == "no answer within 0 s"


def test_settings_are_held_against_what_the_node_has(tmp_path: Path) -> None:
    for place, content in (
        ("proc/sys/kernel/osrelease", "5.10.0-9-amd64"), ("proc/sys/vm/min_free_kbytes", "1024"),
        ("proc/sys/kernel/panic", "10"), ("proc/sys/kernel/panic_on_oops", "0"),
    ):  # fmt: skip
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{content}\n")
    seen = {setting.name: setting.good for setting in settings.look(root=tmp_path)}
    assert seen == {
        "cgroup v2": False,
        "Linux 5.9 or later": True,
        "vm.min_free_kbytes": False,
        "kernel.panic": True,
        "kernel.panic_on_oops": False,
    }
    assert all(setting.source.startswith("https://") and setting.why for setting in settings.look(root=tmp_path))


def test_a_monitor_without_its_task_says_which_variable_is_missing() -> None:
    with pytest.raises(ValueError, match="variable NODE_NAME is missing"):
        task_of({})
    task = task_of({"NODE_NAME": "a", "QUIET_SECONDS": "20", "REPOSITORIES": "one,two"})
    assert task.repositories == [Path("/cvmfs/one"), Path("/cvmfs/two")]
