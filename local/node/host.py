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
from local.node.layout import BRIDGE, CVMFS, NETWORK, POLICY_TABLE, PROFILES, SHARED_PLACES, Layout
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
DEVICES = (BRIDGE, NETWORK)
# Per chain of iptables, what is let through where the chain drops what no rule accepts.
RULES = {
    "FORWARD": tuple((way, device, "-j", "ACCEPT") for device in DEVICES for way in ("-i", "-o")),
    "INPUT": tuple(("-i", device, "-j", "ACCEPT") for device in DEVICES),
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


def below(places: Sequence[Path], present: Sequence[Mount]) -> list[Path]:
    """Where something is mounted at or below one of the places, the last one made first."""
    return [mount.point for mount in reversed(present) if any(mount.point.is_relative_to(place) for place in places)]


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
    """The hardware address that tells our bridges from others of that name; of the locally administered kind."""
    digest = hashlib.sha256(str(layout.root).encode()).hexdigest()
    return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])


def device_address(device: str) -> str | None:
    """The hardware address of what has a device's name; none if nothing has."""
    try:
        return Path(f"/sys/class/net/{device}/address").read_text().strip()
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
    bridge(layout)
    forward(BRIDGE)
    _let_through()
    control_group(layout)
    PROFILES.mkdir(parents=True, exist_ok=True)
    profiles(layout)
    layout.cvmfs.mkdir(exist_ok=True)
    CVMFS.mkdir(exist_ok=True)
    if not is_mounted(CVMFS):
        mount("--bind", layout.cvmfs, CVMFS)
    # A group of its own: in that of /, which systemd shares, what is mounted here would show in our directory too.
    present = present_mounts()
    if mount_of(CVMFS, present).peers in {None, mount_of(layout.cvmfs, present).peers}:
        mount("--make-private", CVMFS)
        mount("--make-rshared", CVMFS)


def bridge(layout: Layout, within: Sequence[str] = ()) -> None:
    """Makes the bridge of a node's pods where it is not there already.

    Args:
        layout: the node's.
        within: the words of a command that runs another one in a namespace; in ours by default.
    """
    if f" {BRIDGE}: " not in ip("-oneline", "link", within=within):
        # The filters are by which a Service's answer finds back when client and server are ports of the same bridge,
        # and network policies hold between them.
        own = bridge_hardware_address(layout)
        ip("link", "add", "name", BRIDGE, "address", own, "type", "bridge", *FILTERED, within=within)
    address = f"{layout.address}/{layout.pods.prefixlen}"
    if f" {address} " not in ip("-oneline", "address", "show", "dev", BRIDGE, within=within):
        ip("address", "add", address, "dev", BRIDGE, within=within)
    ip("link", "set", BRIDGE, "up", within=within)


def forward(device: str, within: Sequence[str] = ()) -> None:
    """Has the machine pass on what comes in from a device, and from no other."""
    switch = f"echo 1 >/proc/sys/net/ipv4/conf/{device}/forwarding"
    commands.output([*within, "sh", "-c", switch], what="setting up the network", seconds=COMMAND_SECONDS)


def network(first: Layout, other: Layout) -> None:
    """Makes the way from the first node to another one's pods, which stays when that node is cut off."""
    if device_address(NETWORK) is None:
        ip("link", "add", "name", NETWORK, "address", bridge_hardware_address(first), "type", "bridge")
    # What the first node itself sends to a Service whose pods are there leaves with the address of this device, and
    # network policies are to know it by its own.
    ip("address", "replace", f"{first.address}/32", "dev", NETWORK)
    ip("link", "set", NETWORK, "up")
    forward(NETWORK)
    way = (str(other.pods), "via", str(other.address), "dev", NETWORK, "onlink", "src", str(first.address))
    ip("route", "replace", *way)


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


def remove_second(layout: Layout) -> None:
    """Removes what a second node has on this machine; its processes are gone already.

    Raises:
        Refusal: something of it would not go.
    """
    _remove_bridge(NETWORK)
    _remove_cgroups(layout.cgroup)
    for place in (layout.run, layout.root):
        shutil.rmtree(place, ignore_errors=True)
        if place.exists():
            raise Refusal(f"removing {place}: something in it is still in use; try again")


def control_group(layout: Layout) -> None:
    """Makes a node's control group, with the controllers that a kubelet needs."""
    for hierarchy in _hierarchies():
        (hierarchy / layout.cgroup).mkdir(parents=True, exist_ok=True)
    _delegate(layout.cgroup)


def profiles(layout: Layout) -> None:
    """The kubelet looks for profiles below its own directory; agents write them where those of other nodes look."""
    layout.profiles.parent.mkdir(exist_ok=True)
    if not layout.profiles.is_symlink():
        layout.profiles.symlink_to(PROFILES)


def mount(*words: str | Path, within: Sequence[str] = ()) -> None:
    """Mounts, in a namespace as `bridge` has it."""
    commands.output([*within, "mount", "--no-mtab", *words], what=f"mounting {words[-1]}", seconds=COMMAND_SECONDS)


def unmount(points: Sequence[Path], within: Sequence[str] = ()) -> None:
    """Unmounts, lazily: a file system whose server was just killed answers nobody."""
    if points:
        commands.output([*within, "umount", "--no-mtab", "--lazy", *points], what="unmounting", seconds=COMMAND_SECONDS)


def ip(*words: str, within: Sequence[str] = ()) -> str:
    """What `ip` says, in a namespace as `bridge` has it."""
    return commands.output([*within, "ip", *words], what="setting up the network", seconds=COMMAND_SECONDS)


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
    _remove_cgroups(layout.cgroup)


def end_containers(layout: Layout) -> None:
    """Kills shims first, for each would clean up after its container, and then all that the control group holds."""
    shims = [
        pid
        for pid, words in processes.everyone()
        if words and Path(words[0]).name.startswith("containerd-shim") and str(layout.containerd_socket) in words
    ]
    deadline = time.monotonic() + SETTLE_SECONDS
    pids = shims + _members(layout.cgroup)
    while pids:
        processes.kill([process for pid in pids if (process := processes.alive(pid)) is not None])
        if time.monotonic() > deadline:
            raise Refusal(f"ending the containers: processes {pids} do not go; try again, or restart the machine")
        pids = [pid for pid in _members(layout.cgroup) if processes.alive(pid) is not None]


def remove_device(device: str) -> None:
    """Removes a network device where it is there.

    Raises:
        Refusal: it would not go.
    """
    if device_address(device) is not None:
        try:
            ip("link", "delete", device)
        except Refusal:  # or it went by itself, with the namespace that its other end is in
            if device_address(device) is not None:
                raise


def _remove_network() -> None:
    for device in DEVICES:
        _remove_bridge(device)
    for table in tables():
        commands.output(["nft", "delete", "table", *table], what="removing nftables' rules", seconds=COMMAND_SECONDS)
    _shut_again()


def _remove_bridge(device: str) -> None:
    for port in Path(f"/sys/class/net/{device}/brif").glob("*"):
        remove_device(port.name)
    remove_device(device)


def _unmount(layout: Layout) -> None:
    ours = [layout.root, layout.run, *_made(layout)]
    if is_bound(layout.cvmfs, CVMFS):
        ours.append(CVMFS)
    unmount(below(ours, present_mounts()))


def _remove_cgroups(group: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        left = [place for hierarchy in _hierarchies() for place in _tree(hierarchy / group)]
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


def _delegate(group: str) -> None:
    """On v2, gives a group the controllers that a kubelet needs."""
    if not (CGROUP_ROOT / "cgroup.controllers").exists():
        return
    own = CGROUP_ROOT / group
    for place in (*(parent for parent in reversed(own.parents) if parent.is_relative_to(CGROUP_ROOT)), own):
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


def _members(group: str) -> list[int]:
    """The processes in a control group."""
    pids: set[int] = set()
    for place in (place for hierarchy in _hierarchies() for place in _tree(hierarchy / group)):
        with contextlib.suppress(FileNotFoundError, OSError):
            pids |= {int(word) for word in (place / "cgroup.procs").read_text().split()}
    return sorted(pids)


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except FileNotFoundError:
        return None


def _unescape(text: str) -> str:
    """Undoes the octal escapes of /proc."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _replace(place: Path, text: str) -> None:
    fresh = place.with_name(f".{place.name}.new")
    fresh.write_text(text)
    fresh.replace(place)
