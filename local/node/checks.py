"""What must be true of a machine before a node is started on it, told as one sentence when it is not."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path

from local import commands
from local.node import host
from local.node.layout import (
    API_PORT,
    BRIDGE,
    CONTROLLER_MANAGER_PORT,
    CVMFS,
    KUBELET_DIRECTORY,
    KUBELET_HEALTH_PORT,
    KUBELET_PORT,
    NETWORK,
    NETWORK_POLICIES_PORT,
    NODE_ADDRESS,
    PODS,
    PROXY_HEALTH_PORT,
    PROXY_METRICS_PORT,
    SCHEDULER_PORT,
    SECOND_PODS,
    SERVICES,
    Layout,
)

# The components take 790 MiB, as measured on an idle node, and a kubelet evicts pods below 200; the rest is for pods.
MEMORY_BYTES = 1600 * 2**20
# The node itself takes 0.3 GiB, as measured, and a kubelet evicts pods below 1; the rest is for images.
DISK_BYTES = 4 * 2**30
# overlayfs wants extended attributes and whiteouts of what is below it (kernel: Documentation/filesystems/overlayfs).
NO_BASE_OF_OVERLAYS = ("overlay", "nfs", "nfs4", "cifs", "vfat", "ecryptfs", "fuse.sshfs", "afs")

PORTS = {
    API_PORT: "apiserver",
    KUBELET_PORT: "kubelet",
    KUBELET_HEALTH_PORT: "kubelet",
    PROXY_HEALTH_PORT: "proxy",
    PROXY_METRICS_PORT: "proxy",
    CONTROLLER_MANAGER_PORT: "controller-manager",
    SCHEDULER_PORT: "scheduler",
    NETWORK_POLICIES_PORT: "network-policies",
}
FILE_SYSTEMS = ("overlay", "fuse")
PACKET_QUEUES = Path("/proc/net/netfilter/nfnetlink_queue")
# By number (capability.h): what mounts, network devices, namespaces and other users' files take.
CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_CHROOT": 18,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_MKNOD": 27,
    "CAP_SETFCAP": 31,
}
ELSEWHERE = "or name a cluster to use in its place: `make up KUBECONFIG=…`"
LISTENING = "0A"  # the state of a socket in /proc/net/tcp


@dataclass(frozen=True, kw_only=True)
class Listener:
    """A TCP socket that waits for connections."""

    address: str
    port: int
    inode: int


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is looked at. Capabilities are a bit mask, memory and disk are free bytes.

    The things that another cluster may have in our places count only when they are not our own.
    """

    user: int
    capabilities: int
    file_systems: frozenset[str]
    fuse_device: bool
    bridge_filter: bool
    packet_queue: bool
    memory: int
    disk: int
    state_file_system: str
    routes: tuple[IPv4Network, ...]
    busy_ports: tuple[tuple[int, str], ...]
    foreign_owner: str | None
    foreign_bridges: tuple[str, ...]
    foreign_kubelet: bool
    foreign_tables: tuple[str, ...]
    foreign_cvmfs: bool


def objections(facts: Facts) -> Iterator[str]:
    """What forbids a start, the plainest first; each a sentence that says where, what and the remedy."""
    yield from _privilege(facts)
    yield from _kernel(facts)
    yield from _others(facts)
    yield from _room(facts)


def _privilege(facts: Facts) -> Iterator[str]:
    if facts.user != 0:
        yield f"a node on this machine needs root: say `sudo make up`, {ELSEWHERE}"
    lacking = [name for name, number in CAPABILITIES.items() if not facts.capabilities >> number & 1]
    if lacking:
        yield (
            f"a node on this machine needs {', '.join(lacking)}, and this user lacks "
            f"{'it' if len(lacking) == 1 else 'them'}: run as root, and in no container but a privileged one"
        )


def _kernel(facts: Facts) -> Iterator[str]:
    for name in FILE_SYSTEMS:
        if name not in facts.file_systems:
            yield f"this kernel has no {name} file system: say `modprobe {name}`, or use a kernel that has it"
    if not facts.fuse_device:
        yield "/dev/fuse is missing, without which CVMFS cannot be mounted: say `modprobe fuse`"
    if not facts.bridge_filter:
        yield "this kernel does not filter bridged packets (/proc/sys/net/bridge): say `modprobe br_netfilter`"
    if not facts.packet_queue:
        yield f"this kernel asks no program about packets ({PACKET_QUEUES}): say `modprobe nfnetlink_queue`"


def _others(facts: Facts) -> Iterator[str]:
    if facts.foreign_owner is not None:
        yield f"another node runs on this machine, that of {facts.foreign_owner}: stop it first, as who started it"
    for bridge in facts.foreign_bridges:
        yield f"network device {bridge} is not ours: remove it (`ip link delete {bridge}`) if nobody needs it"
    if facts.foreign_kubelet:
        yield f"{KUBELET_DIRECTORY} belongs to another Kubernetes on this machine: remove it, {ELSEWHERE}"
    for table in facts.foreign_tables:
        yield f"nftables table {table} belongs to another Kubernetes on this machine: remove it, {ELSEWHERE}"
    if facts.foreign_cvmfs:
        yield f"{CVMFS} is the mount of something else: unmount it, {ELSEWHERE}"
    for subnet in (PODS, SERVICES, SECOND_PODS):
        for route in facts.routes:
            if route.overlaps(subnet):
                yield f"subnet {subnet}, which the node needs, is in use on this machine: remove the route to {route}"
    for port, program in facts.busy_ports:
        yield f"port {port}, which the node's {PORTS[port]} needs, is taken by {program}: stop that first"


def _room(facts: Facts) -> Iterator[str]:
    if facts.memory < MEMORY_BYTES:
        yield (
            f"the node needs {MEMORY_BYTES >> 20} MiB of memory and this machine has {facts.memory >> 20} MiB free: "
            "end something else"
        )
    if facts.disk < DISK_BYTES:
        yield (
            f"the node needs {DISK_BYTES >> 20} MiB of disk and its state directory has {facts.disk >> 20} MiB free: "
            "make room, or point XDG_STATE_HOME elsewhere"
        )
    if facts.state_file_system in NO_BASE_OF_OVERLAYS:
        yield (
            f"the node's state directory is on {facts.state_file_system}, where overlays cannot be stored: "
            "point XDG_STATE_HOME to a local disk"
        )


def gather(layout: Layout, stopped: frozenset[str], *, cold: bool) -> Facts:
    """Looks at this machine.

    Args:
        layout: where our node lies.
        stopped: the components that are about to be started, whose ports must be free.
        cold: whether nothing of the node runs yet; later its own use of memory and disk would count against it.
    """
    for module in ("overlay", "fuse", "br_netfilter", "nfnetlink_queue"):
        _load(module)
    claimed = layout.undo.exists()
    owner = host.owner(layout)
    return Facts(
        user=os.geteuid(),
        capabilities=capabilities(Path("/proc/self/status").read_text()),
        file_systems=frozenset(line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()),
        fuse_device=Path("/dev/fuse").is_char_device(),
        bridge_filter=Path("/proc/sys/net/bridge").exists(),
        packet_queue=PACKET_QUEUES.exists(),
        memory=available_memory(Path("/proc/meminfo").read_text()) if cold else MEMORY_BYTES,
        disk=_free_disk(layout.root) if cold else DISK_BYTES,
        state_file_system=host.mount_of(layout.root, host.present_mounts()).kind,
        routes=_foreign_routes(),
        busy_ports=tuple(_busy_ports(frozenset(port for port, name in PORTS.items() if name in stopped))),
        foreign_owner=owner if owner not in {None, str(layout.root)} else None,
        foreign_bridges=tuple(
            device
            for device in (BRIDGE, NETWORK)
            if host.device_address(device) not in {None, host.bridge_hardware_address(layout)}
        ),
        foreign_kubelet=not claimed and KUBELET_DIRECTORY.exists() and any(KUBELET_DIRECTORY.iterdir()),
        foreign_tables=() if claimed else tuple(" ".join(table) for table in host.tables()),
        foreign_cvmfs=host.is_mounted(CVMFS) and not host.is_bound(layout.cvmfs, CVMFS),
    )


def capabilities(status: str) -> int:
    """The effective capabilities in a /proc/<pid>/status."""
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)


def available_memory(meminfo: str) -> int:
    """The bytes that /proc/meminfo calls available."""
    return int(next(line.split()[1] for line in meminfo.splitlines() if line.startswith("MemAvailable:"))) * 1024


def listeners(table: str) -> list[Listener]:
    """The listening sockets of a /proc/net/tcp or tcp6, whose addresses are words of hexadecimal, each reversed."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTENING:
            words, port = fields[1].split(":")
            packed = b"".join(bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8))
            address = ip_address(packed)
            mapped = getattr(address, "ipv4_mapped", None)
            found.append(Listener(address=str(mapped or address), port=int(port, 16), inode=int(fields[9])))
    return found


def foreign_routes(routes: str) -> tuple[IPv4Network, ...]:
    """The IPv4 destinations in the output of `ip -json route`, without the default and without those of our bridges."""
    return tuple(
        IPv4Network(route["dst"])
        for route in json.loads(routes)
        if route["dst"] != "default" and route.get("dev") not in {BRIDGE, NETWORK}
    )


def _foreign_routes() -> tuple[IPv4Network, ...]:
    listed = commands.output(["ip", "-json", "-4", "route"], what="listing routes", seconds=host.COMMAND_SECONDS)
    return foreign_routes(listed)


def _busy_ports(ports: frozenset[int]) -> Iterator[tuple[int, str]]:
    """Those of the ports that are taken at the node's address, and by whom."""
    ours = {str(NODE_ADDRESS), str(IPv4Address(0)), "::"}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if Path(table).exists():
            for listener in listeners(Path(table).read_text()):
                if listener.port in ports and listener.address in ours:
                    yield listener.port, _program(listener.inode)


def _program(inode: int) -> str:
    """The process that has a socket open."""
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(handle.readlink()) == f"socket:[{inode}]":
                return f"{(handle.parents[1] / 'comm').read_text().strip()} (process {handle.parts[2]})"
        except OSError:  # it ended meanwhile
            continue
    return "a process of another namespace"


def _free_disk(place: Path) -> int:
    return shutil.disk_usage(next(parent for parent in (place, *place.parents) if parent.exists())).free


def _load(module: str) -> None:
    """Loads a kernel module where modules are; where they are not it is in the kernel, or the check says so."""
    if shutil.which("modprobe") is not None:
        subprocess.run(["modprobe", "--quiet", module], capture_output=True, timeout=host.COMMAND_SECONDS, check=False)
