"""What the node changes on the machine around it, each with the way back.

Bridge, control group and run directory carry names of our own. What lies in shared places is told from others' by a
record of what the machine was like before, written before the first change.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from local import commands
from local.node import processes
from local.node.layout import BRIDGE, CGROUP, CVMFS, NODE_ADDRESS, PODS, POLICY_TABLE, PROFILES, SHARED_PLACES, Layout
from local.refusal import Refusal

COMMAND_SECONDS = 20.0
SETTLE_SECONDS = 10.0
CGROUP_ROOT = Path("/sys/fs/cgroup")
# The controllers without which a kubelet does not start on cgroup v2.
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
# kubelet sets the first six of them to what it wants, loading br_netfilter may set the seventh.
SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/bridge/bridge-nf-call-iptables",
)
# Per chain of iptables, what is let through where the chain drops what no rule accepts.
RULES = {
    "FORWARD": (("-i", BRIDGE, "-j", "ACCEPT"), ("-o", BRIDGE, "-j", "ACCEPT")),
    "INPUT": (("-i", BRIDGE, "-j", "ACCEPT"),),
}
FILTERED = ("nf_call_iptables", "1", "nf_call_ip6tables", "1")
TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"), ("inet", POLICY_TABLE))


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A mount at `point`: its file system's kind, and the group of peers that share what is mounted below it."""

    point: Path
    kind: str
    peers: str | None


def mounts(mountinfo: str) -> list[Mount]:
    """The mounts of a /proc/<pid>/mountinfo, in the order in which they were made."""
    found = []
    for line in mountinfo.splitlines():
        general, _, special = line.partition(" - ")
        _, _, _, _, point, _, *optional = general.split()
        found.append(
            Mount(
                point=Path(_unescape(point)),
                kind=special.split()[0],
                peers=next((field for field in optional if field.startswith("shared:")), None),
            )
        )
    return found


def mount_of(place: Path, present: Sequence[Mount]) -> Mount:
    """The mount that an absolute path lies on: the last one made at the longest of its parents."""
    return max(
        (mount for mount in reversed(present) if place.is_relative_to(mount.point)),
        key=lambda mount: len(mount.point.parts),
    )


def present_mounts() -> list[Mount]:
    """The mounts of this machine."""
    return mounts(Path("/proc/self/mountinfo").read_text())


def is_mounted(place: Path) -> bool:
    """Whether anything is mounted at a place."""
    return any(mount.point == place for mount in present_mounts())


def is_bound(source: Path, place: Path) -> bool:
    """Whether two places show the same directory."""
    try:
        return place.samefile(source)
    except OSError:  # absent, or mounted from a server that is gone
        return False


def bridge_hardware_address(layout: Layout) -> str:
    """The hardware address that tells our bridge from another of that name; of the locally administered kind."""
    digest = hashlib.sha256(str(layout.root).encode()).hexdigest()
    return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])


def bridge_owner() -> str | None:
    """The hardware address of what has our bridge's name; none if nothing has."""
    try:
        return Path(f"/sys/class/net/{BRIDGE}/address").read_text().strip()
    except FileNotFoundError:
        return None


def claim(layout: Layout) -> None:
    """Writes down what the machine is like, once, and whose node this will be."""
    bury(layout)
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.root.chmod(0o700)
    if not layout.undo.exists():
        before = {
            "sysctls": {name: text for name in SYSCTLS if (text := _sysctl(name)) is not None},
            "absent": [str(place) for place in SHARED_PLACES if not place.exists()],
        }
        _replace(layout.undo, json.dumps(before, indent=2))
    layout.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not layout.owner.exists():
        _replace(layout.owner, str(layout.root))


def owner(layout: Layout) -> str | None:
    """The directory that the node of this machine belongs to; none if there is no node."""
    try:
        return layout.owner.read_text()
    except FileNotFoundError:
        return None
    except PermissionError:  # only who has a node can enter its directory, and only root can have one
        return "root"


def set_up(layout: Layout) -> None:
    """Makes the bridge, the control group and the shared mount, where they are not there already."""
    if bridge_owner() is None:
        # Forwarding is switched on for the bridge alone, and so are the filters, by which a Service's answer finds back
        # when client and server are ports of the same bridge, and network policies hold between them.
        own = bridge_hardware_address(layout)
        _ip("link", "add", "name", BRIDGE, "address", own, "type", "bridge", *FILTERED)
    addresses = _ip("-oneline", "address", "show", "dev", BRIDGE)
    if f" {NODE_ADDRESS}/{PODS.prefixlen} " not in addresses:
        _ip("address", "add", f"{NODE_ADDRESS}/{PODS.prefixlen}", "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
    Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/forwarding").write_text("1")
    _let_through()
    for hierarchy in _hierarchies():
        (hierarchy / CGROUP).mkdir(exist_ok=True)
    _delegate()
    # The kubelet looks for profiles below its own directory; agents write them where those of other nodes look.
    PROFILES.mkdir(parents=True, exist_ok=True)
    layout.profiles.parent.mkdir(exist_ok=True)
    if not layout.profiles.is_symlink():
        layout.profiles.symlink_to(PROFILES)
    layout.cvmfs.mkdir(exist_ok=True)
    CVMFS.mkdir(exist_ok=True)
    if not is_mounted(CVMFS):
        _mount("--bind", layout.cvmfs, CVMFS)
    # A group of its own: in that of /, which systemd shares, what is mounted here would show in our directory too.
    present = present_mounts()
    if mount_of(CVMFS, present).peers in {None, mount_of(layout.cvmfs, present).peers}:
        _mount("--make-private", CVMFS)
        _mount("--make-rshared", CVMFS)


def tear_down(layout: Layout) -> None:
    """Undoes all of it; the daemons are gone already.

    Raises:
        Refusal: something of ours would not go.
    """
    end_containers(layout)
    forget(layout)
    _remove_shared(layout)
    if layout.undo.exists():
        for name, text in json.loads(layout.undo.read_text())["sysctls"].items():
            if _sysctl(name) not in {text, None}:
                Path("/proc/sys", name).write_text(text)
    shutil.rmtree(layout.run, ignore_errors=True)
    if layout.root.exists():
        # Renamed in one step, so that nobody ever meets half a node.
        bury(layout)
        layout.root.rename(layout.grave)
    bury(layout)
    for place in (layout.grave, layout.run):
        if place.exists():
            raise Refusal(f"removing {place}: something in it is still in use; try again")


def bury(layout: Layout) -> None:
    """Removes what an earlier stop had no time to remove."""
    shutil.rmtree(layout.grave, ignore_errors=True)


def tables() -> list[tuple[str, str]]:
    """The nftables tables that a node's components made; none for who may not ask, and so may not have a node either.

    Each is a family and a name.
    """
    if shutil.which("nft") is None or os.geteuid() != 0:
        return []
    listed = commands.output(["nft", "list", "tables"], what="listing nftables", seconds=COMMAND_SECONDS)
    return [table for table in TABLES if f"table {' '.join(table)}" in listed.splitlines()]


def forget(layout: Layout) -> None:
    """Removes what lies in the kernel, and would be gone after a reboot: devices, rules, mounts, control groups."""
    _remove_network()
    _unmount(layout)
    _remove_cgroups()


def end_containers(layout: Layout) -> None:
    """Kills shims first, for each would clean up after its container, and then all that our control group holds."""
    shims = [
        pid
        for pid, words in processes.everyone()
        if words and Path(words[0]).name.startswith("containerd-shim") and str(layout.containerd_socket) in words
    ]
    deadline = time.monotonic() + SETTLE_SECONDS
    pids = shims + _members()
    while pids:
        processes.kill([process for pid in pids if (process := processes.alive(pid)) is not None])
        if time.monotonic() > deadline:
            raise Refusal(f"ending the containers: processes {pids} do not go; try again, or restart the machine")
        pids = [pid for pid in _members() if processes.alive(pid) is not None]


def _remove_network() -> None:
    for port in Path(f"/sys/class/net/{BRIDGE}/brif").glob("*"):
        _ip("link", "delete", port.name)
    if bridge_owner() is not None:
        _ip("link", "delete", BRIDGE)
    for table in tables():
        commands.output(["nft", "delete", "table", *table], what="removing nftables' rules", seconds=COMMAND_SECONDS)
    _shut_again()


def _unmount(layout: Layout) -> None:
    ours = [layout.root, layout.run, *_made(layout)]
    if is_bound(layout.cvmfs, CVMFS):
        ours.append(CVMFS)
    points = [
        mount.point for mount in reversed(present_mounts()) if any(mount.point.is_relative_to(place) for place in ours)
    ]
    # Lazily: a file system whose server was just killed answers nobody.
    if points:
        commands.output(["umount", "--no-mtab", "--lazy", *points], what="unmounting", seconds=COMMAND_SECONDS)


def _remove_cgroups() -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        left = [place for hierarchy in _hierarchies() for place in _tree(hierarchy / CGROUP)]
        if not left:
            return
        for place in left:
            with contextlib.suppress(OSError):  # busy until the kernel has buried the last process of it
                place.rmdir()
        if time.monotonic() > deadline:
            raise Refusal(f"removing the control group {left[-1]}: it is still in use; try again")
        time.sleep(0.02)


def _remove_shared(layout: Layout) -> None:
    """Removes what lies in places that others may use too: the whole place if it was not there before we came."""
    for bundle in layout.containerd_state.glob("io.containerd.runtime.v2.task/*/*"):
        with contextlib.suppress(FileNotFoundError):
            Path((bundle / "address").read_text().removeprefix("unix://")).unlink()
    for link in Path("/var/log/containers").glob("*"):
        if link.is_symlink() and link.readlink().is_relative_to(layout.root):
            link.unlink()
    for place in _made(layout):
        shutil.rmtree(place, ignore_errors=True)


def _made(layout: Layout) -> list[Path]:
    """The shared places that were not there before we came."""
    return [Path(place) for place in json.loads(layout.undo.read_text())["absent"]] if layout.undo.exists() else []


def _let_through() -> None:
    """Lets pods reach each other and the API server where the machine drops by default, as Docker and ufw have it."""
    if shutil.which("iptables") is None:
        return
    for chain, rules in RULES.items():
        present = _iptables("--list-rules", chain).splitlines()
        if f"-P {chain} DROP" in present:
            for rule in rules:
                if f"-A {chain} {' '.join(rule)}" not in present:
                    _iptables("--insert", chain, *rule)


def _shut_again() -> None:
    if shutil.which("iptables") is None:
        return
    for chain, rules in RULES.items():
        present = _iptables("--list-rules", chain).splitlines()
        for rule in rules:
            if f"-A {chain} {' '.join(rule)}" in present:
                _iptables("--delete", chain, *rule)


def _iptables(*words: str) -> str:
    return commands.output(["iptables", "--wait", "5", *words], what="letting pods through", seconds=COMMAND_SECONDS)


def _hierarchies() -> list[Path]:
    """Where control groups are made: the one tree of v2, or every tree of v1."""
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        return [CGROUP_ROOT]
    return [place for place in CGROUP_ROOT.iterdir() if (place / "cgroup.procs").exists() and not place.is_symlink()]


def _delegate() -> None:
    """On v2, gives our group the controllers that a kubelet needs."""
    if not (CGROUP_ROOT / "cgroup.controllers").exists():
        return
    for place in (CGROUP_ROOT, CGROUP_ROOT / CGROUP):
        lacking = set(CONTROLLERS) - set((place / "cgroup.subtree_control").read_text().split())
        try:
            (place / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(lacking)))
        except OSError as error:
            raise Refusal(
                f"control groups: {place} does not pass on {', '.join(sorted(lacking))} ({error.strerror}): "
                "run outside a container, or give it a control group namespace of its own"
            ) from None


def _tree(top: Path) -> Iterator[Path]:
    """A control group and all below it, the deepest first."""
    if top.is_dir():
        with contextlib.suppress(FileNotFoundError):
            for below in top.iterdir():
                if below.is_dir():
                    yield from _tree(below)
        yield top


def _members() -> list[int]:
    """The processes in our control group."""
    pids: set[int] = set()
    for place in (place for hierarchy in _hierarchies() for place in _tree(hierarchy / CGROUP)):
        with contextlib.suppress(FileNotFoundError, OSError):
            pids |= {int(word) for word in (place / "cgroup.procs").read_text().split()}
    return sorted(pids)


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except FileNotFoundError:
        return None


def _mount(*words: str | Path) -> None:
    commands.output(["mount", "--no-mtab", *words], what=f"mounting {words[-1]}", seconds=COMMAND_SECONDS)


def _ip(*words: str) -> str:
    return commands.output(["ip", *words], what=f"network device {BRIDGE}", seconds=COMMAND_SECONDS)


def _unescape(text: str) -> str:
    """Undoes the octal escapes of /proc."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _replace(place: Path, text: str) -> None:
    fresh = place.with_name(f".{place.name}.new")
    fresh.write_text(text)
    fresh.replace(place)
