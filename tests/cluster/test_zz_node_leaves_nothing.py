"""The end of the node, and what is left of it: nothing. The last of the cluster's tests, for it ends the cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local import node as machine, tools
from local.node import host, processes
from local.node.layout import (
    BRIDGE,
    CGROUP,
    CVMFS,
    NETWORK,
    PODS,
    RUN,
    SECOND_PODS,
    SERVICES,
    SHARED_PLACES,
    this_machine,
)
from local.node.second import PORT
from local.paths import CHECKOUT
from local.progress import Progress
from local.refusal import Refusal
from tests.cluster import toolbox
from tests.cluster.cluster import BOUND, KUBECTL_SECONDS

pytestmark = pytest.mark.cluster

LAYOUT = this_machine()
# Where programs leave things without being asked.
FULL_PLACES = ("/run", "/var", "/var/lib", "/var/log", "/opt", "/etc", "/usr/libexec")
COMMAND_SECONDS = KUBECTL_SECONDS
START_SECONDS = 600
START = (
    "from pathlib import Path; import sys; from local import node; from local.progress import Progress;"
    "node.start(Progress(total=1), Path(sys.argv[1]), nodes=2)"
)
# Where shared mounts come and go, and FUSE's file system for its control: kubelet and containers make both at will.
WORKLOAD = """
apiVersion: v1
kind: Pod
metadata: {name: mounter}
spec:
  containers:
  - name: main
    image: IMAGE
    command: [/busybox, sh, -c]
    args: ["/busybox mkdir -p /shared/m; /busybox mount -t tmpfs m /shared/m && exec /busybox sleep 36000"]
    securityContext: {privileged: true}
    volumeMounts:
    - {name: shared, mountPath: /shared, mountPropagation: Bidirectional}
    - {name: memory, mountPath: /memory}
  volumes:
  - {name: shared, hostPath: {path: /var/cvmfs}}
  - {name: memory, emptyDir: {medium: Memory}}
"""


@dataclass(frozen=True)
class Machine:
    """Everything on this machine that a node could leave behind."""

    mounts: frozenset[str]
    devices: frozenset[str]
    routes: str
    namespaces: frozenset[str]
    rules: str
    sysctls: tuple[tuple[str, str], ...]
    cgroups: frozenset[str]
    places: frozenset[str]


def look() -> Machine:
    """Takes it all down."""
    return Machine(
        mounts=frozenset(str(mount.point) for mount in host.present_mounts()),
        devices=frozenset(device.name for device in Path("/sys/class/net").iterdir()),
        routes=output("ip", "-4", "route"),
        namespaces=frozenset(output("lsns", "--noheadings", "--output", "NS", "--type", "net").split()),
        rules=output("nft", "--stateless", "list", "ruleset"),
        sysctls=tuple(sysctls()),
        cgroups=frozenset(str(place) for place in host.CGROUP_ROOT.rglob(f"{CGROUP}*")),
        places=frozenset(
            str(place)
            for place in (
                *SHARED_PLACES,
                RUN,
                LAYOUT.root,
                *(place for top in FULL_PLACES for place in Path(top).iterdir()),
            )
            if place.exists()
        ),
    )


def sysctls() -> Iterator[tuple[str, str]]:
    for top in ("vm", "kernel/panic", "kernel/panic_on_oops", "kernel/keys", "net/ipv4", "net/bridge", "net/netfilter"):
        for file in sorted(
            file for file in (Path("/proc/sys", top), *Path("/proc/sys", top).rglob("*")) if file.is_file()
        ):
            # These count or change by themselves.
            if (
                os.access(file, os.R_OK)
                and file.stat().st_mode & 0o444
                and file.name not in {"nf_conntrack_count", "drop_caches", "compact_memory", "flush", "stat_refresh"}
            ):
                yield str(file), file.read_text(errors="replace")


def output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=COMMAND_SECONDS).stdout


def ours() -> list[list[str]]:
    """The command lines of processes that speak of the node's places."""
    return [
        words
        for pid, words in processes.everyone()
        if pid != os.getpid() and any(str(place) in word for word in words for place in (LAYOUT.root, RUN))
    ]


def start(nodes: int = 1) -> Path:
    progress = Progress(total=1)
    return machine.start(progress, tools.ensure(progress, machine.TOOLS), nodes)


def use(directory: Path) -> None:
    """Has the node make mounts of every kind."""
    kubectl = [str(machine.KUBECTL), "--kubeconfig", str(machine.KUBECONFIG)]
    manifest = WORKLOAD.replace("IMAGE", toolbox.bring_in(directory))
    output(*kubectl, "wait", "--for=create", "serviceaccount/default", BOUND)
    subprocess.run([*kubectl, "apply", "-f", "-"], input=manifest, text=True, check=True, timeout=COMMAND_SECONDS)
    output(*kubectl, "wait", "pod/mounter", "--for=condition=Ready", BOUND)


@pytest.fixture(autouse=True)
def nothing_runs_before_or_after() -> Iterator[None]:
    machine.stop()
    yield
    machine.stop()


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_node_that_was_used_and_stopped_leaves_nothing(nodes: int, tmp_path: Path) -> None:
    before = look()
    start(nodes)
    use(tmp_path)
    assert look() != before
    machine.stop()
    assert look() == before
    assert ours() == []
    assert not machine.running()


def test_nothing_that_bears_our_names_is_there_after_a_stop() -> None:
    after = look()
    assert not after.devices & {BRIDGE, NETWORK, PORT}
    assert after.cgroups == frozenset()
    assert not any(name in after.rules for name in ("kube", BRIDGE, str(PODS), str(SERVICES), str(SECOND_PODS)))
    assert not any(Path(point).is_relative_to(place) for point in after.mounts for place in (CVMFS, RUN, LAYOUT.root))
    assert not RUN.exists()
    assert not LAYOUT.root.exists()


def test_what_the_kernel_was_told_is_what_it_was_told_before() -> None:
    start()
    before = json.loads(LAYOUT.undo.read_text())["sysctls"]
    assert before["kernel/panic"] != Path("/proc/sys/kernel/panic").read_text().strip()
    machine.stop()
    assert {name: Path("/proc/sys", name).read_text().strip() for name in before} == before


@pytest.mark.parametrize(
    "last", ["logs", "containerd", "apiserver", "network-policies", f"kubelet of {LAYOUT.second.name}"]
)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_start_that_was_cut_short_anywhere_is_finished_by_the_next_or_undone(last: str, how: signal.Signals) -> None:
    before = look()
    cut_short(last, how)
    start()
    assert machine.running()
    machine.stop()
    cut_short(last, how)
    machine.stop()
    assert look() == before
    assert ours() == []


def cut_short(last: str, how: signal.Signals) -> None:
    """Ends a start by a signal as soon as it says that it starts that component."""
    binaries = tools.ensure(Progress(total=1), machine.TOOLS)
    with subprocess.Popen(
        [sys.executable, "-c", START, binaries], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert any(line.strip() == f"starting {last}" for line in process.stderr)
        os.killpg(process.pid, how)
        process.stderr.close()
        assert process.wait(START_SECONDS) != 0


def test_after_a_reboot_the_node_comes_back_with_what_was_in_it() -> None:
    kubectl = ["kubectl", "--kubeconfig", str(start())]
    output(*kubectl, "create", "configmap", "kept", "--from-literal=key=value")
    # What a power cut takes: every process, and all that lies in the kernel or on /run.
    processes.kill(processes.all_recorded(LAYOUT.processes))
    host.end_containers(LAYOUT)
    host.forget(LAYOUT)
    shutil.rmtree(RUN)
    start()
    assert output(*kubectl, "get", "configmap", "kept", "-o", "jsonpath={.data.key}") == "value"


@pytest.fixture
def dropping_machine() -> Iterator[None]:
    """A machine that drops what no rule accepts, as Docker and ufw leave it."""
    output("apt-get", "-o", "DPkg::Lock::Timeout=600", "install", "--yes", "iptables")
    had = output("nft", "list", "tables")
    output("iptables", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    output("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT")
    output("iptables", "-A", "INPUT", "!", "-i", BRIDGE, "-j", "ACCEPT")
    for chain in ("INPUT", "FORWARD"):
        output("iptables", "-P", chain, "DROP")
    yield
    for chain in ("INPUT", "FORWARD"):
        output("iptables", "-P", chain, "ACCEPT")
    output("iptables", "-F", "INPUT")
    if "table ip filter" not in had:
        output("nft", "delete", "table", "ip", "filter")


@pytest.mark.usefixtures("dropping_machine")
def test_where_the_machine_drops_packets_by_default_pods_are_let_through_while_the_node_lives() -> None:
    before = look()
    start()
    machine.stop()
    assert look() == before


def taken_bridge() -> Callable[[], object]:
    output("ip", "link", "add", "name", BRIDGE, "type", "bridge")
    return lambda: output("ip", "link", "delete", BRIDGE)


def taken_mount() -> Callable[[], object]:
    CVMFS.mkdir()
    output("mount", "-t", "tmpfs", "theirs", str(CVMFS))

    def give_back() -> None:
        output("umount", str(CVMFS))
        CVMFS.rmdir()

    return give_back


def taken_kubelet() -> Callable[[], object]:
    place = Path("/var/lib/kubelet")
    (place / "pki").mkdir(parents=True)

    def give_back() -> None:
        (place / "pki").rmdir()
        place.rmdir()

    return give_back


def taken_table() -> Callable[[], object]:
    output("nft", "add", "table", "ip", "kube-proxy")
    return lambda: output("nft", "delete", "table", "ip", "kube-proxy")


def taken_port() -> Callable[[], object]:
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", "6443"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not Path(f"/proc/{server.pid}/net/tcp").read_text().count(":192B 00000000:0000 0A"):
        assert server.poll() is None

    def give_back() -> None:
        server.kill()
        server.communicate()

    return give_back


@pytest.mark.parametrize(
    ("take", "what"),
    [
        (taken_bridge, "atlas0 is not ours"),
        (taken_mount, "/var/cvmfs is the mount of something else"),
        (taken_kubelet, "/var/lib/kubelet belongs to another Kubernetes"),
        (taken_table, "nftables table ip kube-proxy belongs to another Kubernetes"),
        (taken_port, r"port 6443, which the node's apiserver needs, is taken by python.* \(process \d+\)"),
    ],
)
def test_what_belongs_to_others_is_refused_and_left_as_it_is(
    take: Callable[[], Callable[[], object]], what: str
) -> None:
    give_back = take()
    try:
        before = look()
        with pytest.raises(Refusal, match=what):
            start()
        machine.stop()
        assert look() == before
    finally:
        give_back()
