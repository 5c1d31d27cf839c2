"""What a node of GKE is, and what pods may request of it: known before there is one.

Pure. GKE's own figures: cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes (2026).
"""

from components.cluster.machines import Machine, Room

# Pods have addresses of their own: 256 for each node of at most 110 pods, so that this is enough for 8192 nodes.
PODS_NETWORK = "10.128.0.0/11"
SERVICES_NETWORK = "10.160.0.0/20"
PODS = 110
# The VPC's firewall forgets idle connections, whatever one says: cloud.google.com/compute/docs/troubleshooting.
FIREWALL_IDLE_SECONDS = 600
# Of all clusters in a release channel GKE wants 48 hours in which it may work in any 32 days, which are four weeks.
MAINTENANCE_HOURS_LEAST = 12
# The longest that an upgrade lets a cordoned pool run before it is drained: container API, AutoscaledRolloutPolicy.
UPGRADE_WAIT_MOST_SECONDS = 7 * 24 * 3600
# The node's own OS, logs and the cache of CVMFS, all of which local SSDs do not take: the least is CVMFS's 20 GiB.
BOOT_DISK_GIB = 100
# Machine series that take Hyperdisk alone.
_HYPERDISK = ("c4-", "c4d-")
# On each node: GKE's agents (Dataplane V2, CSI, metadata, metrics) and the pod that mounts CVMFS. An estimate, to the
# safe side: what they request changes with GKE's releases.
_AGENTS_CORES = 0.5
_AGENTS_MEMORY_MIB = 1024
_AGENT_PODS = 20
# Cores that GKE keeps: so much of each of so many cores, the rest of them last.
_CORE_STEPS = ((1, 0.06), (1, 0.01), (2, 0.005))
_CORE_REST = 0.0025
# The same for memory.
_MEMORY_STEPS = ((4 * 1024, 0.25), (4 * 1024, 0.20), (8 * 1024, 0.10), (112 * 1024, 0.06))
_MEMORY_REST = 0.02
_EVICTION_MIB = 100
# Linux keeps a part of the memory for itself, about a sixty-fourth and 350 MiB: cluster-autoscaler's gce/reserved.go.
_KERNEL_SHARE, _KERNEL_MIB = 1 / 64, 350
# Of local SSDs: what the file system takes (measured there as 7 GiB of 375), what the kubelet evicts at, and what GKE
# keeps by the number of disks.
_FILE_SYSTEM, _EVICTION = 0.02, 0.10
_SYSTEM_GIB = {0: 0, 1: 50, 2: 75}
_SYSTEM_GIB_REST = 100


def local_ssds(machine: Machine, chosen: int | None) -> int:
    """The number of local SSDs of a node: the machine type's own, or the chosen one."""
    return machine.disk_gib // machine.ssd_gib if machine.disk_gib else chosen or 0


def boot_disk_type(size: str) -> str:
    """The kind of network disk that a machine type boots from."""
    return "hyperdisk-balanced" if size.startswith(_HYPERDISK) else "pd-balanced"


def reserved_cores(cores: int) -> float:
    """What GKE keeps of the cores for the kubelet and its like."""
    return _stepwise(cores, _CORE_STEPS, _CORE_REST)


def reserved_memory_mib(memory_mib: int) -> int:
    """What GKE keeps of the memory, with what the kubelet wants free."""
    return round(_stepwise(memory_mib, _MEMORY_STEPS, _MEMORY_REST)) + _EVICTION_MIB


def usable_disk_mib(ssds: int, ssd_gib: int) -> int:
    """What pods may have of so many local SSDs: emptyDir, images and logs."""
    usable = ssds * ssd_gib * (1 - _FILE_SYSTEM) * (1 - _EVICTION) - _SYSTEM_GIB.get(ssds, _SYSTEM_GIB_REST)
    return int(max(0, usable) * 1024)


def room(machine: Machine, chosen: int | None) -> Room:
    """What pods may request of a node of this machine type.

    Args:
        machine: its type.
        chosen: number of local SSDs, where the type leaves the choice.
    """
    kernel = machine.memory_mib * _KERNEL_SHARE + _KERNEL_MIB
    return Room(
        cores=round(machine.cores - reserved_cores(machine.cores) - _AGENTS_CORES, 3),
        memory_mib=int(
            machine.memory_mib - kernel - reserved_memory_mib(machine.memory_mib) - _AGENTS_MEMORY_MIB,
        ),
        disk_mib=usable_disk_mib(local_ssds(machine, chosen), machine.ssd_gib),
        pods=PODS - _AGENT_PODS,
    )


def price(machine: Machine, *, spot: bool) -> float | None:
    """List price of one node for an hour, in USD; None where the table knows no price of its disks."""
    return None if machine.ssds else machine.price(spot=spot)


def _stepwise(whole: float, steps: tuple[tuple[int, float], ...], rest: float) -> float:
    kept = 0.0
    for size, share in steps:
        kept += min(whole, size) * share
        whole = max(0, whole - size)
    return kept + whole * rest
