"""What pods may request of a node of AKS: known before there is one, so that what can never fit is refused.

Pure. AKS's own figures: learn.microsoft.com/azure/aks/node-resource-reservations, for versions from 1.29 on.
"""

import math

from components.cluster.machines import Machine, Room

# An OS disk cannot be larger, however large the local disk is.
OS_DISK_MAX_GIB = 2048
# Of a node whose kubelet has the temporary disk: the OS and the cache of CVMFS.
NETWORK_DISK_GIB = 128
# Pods have addresses of their own: 256 for each node, so that this is enough for 8192 nodes.
PODS_NETWORK = "10.128.0.0/11"
SERVICES_NETWORK = "10.0.0.0/16"
DNS_ADDRESS = "10.0.0.10"
# Nodes that an upgrade adds.
SURGE_PERCENT = 10
# That one public address has for connections to the outside.
PORTS_OF_ADDRESS = 64_000
# On each node: the agents of AKS (Cilium, CNS, CSI, identity, proxies) and the pod that mounts CVMFS. An estimate, to
# the safe side: what they request changes with AKS's releases.
_AGENTS_CORES = 0.5
_AGENTS_MEMORY_MIB = 1024
# The OS and our images, which lie on the same disk as emptyDir.
_SYSTEM_DISK_MIB = 30 * 1024
# The kubelet evicts pods when a tenth of the disk, or 100 MiB of memory, is left.
_DISK_USABLE = 0.9
_EVICTION_MIB = 100
_PODS_LEAST = 30
_AGENT_PODS = 20
# Of a machine's memory, the rest being the firmware's and the kernel's; an estimate, to the safe side.
_MEMORY_SEEN = 0.97
_MIB_OF_MB = 1_000_000 / 2**20


def surged(nodes: int) -> int:
    """Nodes that there may be of so many while they are upgraded."""
    return nodes + math.ceil(nodes * SURGE_PERCENT / 100)


def most_pods(machine: Machine) -> int:
    """Pods that a node takes: one startd a core and the agents; AKS reserves 20 MB for each, 250 of them by default.

    A change of this changes every pool, which AKS cannot do in place.
    """
    return max(_PODS_LEAST, machine.cores + _AGENT_PODS)


def reserved_cores(cores: int) -> float:
    """What AKS keeps of the cores for the kubelet and its like."""
    table = {1: 60, 2: 100, 3: 120}
    return table.get(cores, 140 + 10 * (cores - 4)) / 1000


def reserved_memory_mib(memory_mib: int, pods: int) -> int:
    """What AKS keeps of the memory, with what the kubelet wants free."""
    return int(min((20 * pods + 50) * _MIB_OF_MB, memory_mib / 4)) + _EVICTION_MIB


def os_disk_gib(machine: Machine, wanted: int | None) -> int:
    """The size of an OS disk on the machine's local disk: what is wanted of it, or the whole."""
    return wanted or min(machine.disk_gib, OS_DISK_MAX_GIB)


def room(machine: Machine, *, kubelet_disk: str, wanted_disk_gib: int | None) -> Room:
    """What pods may request of a node of this machine type.

    Args:
        machine: its type.
        kubelet_disk: OS or Temporary.
        wanted_disk_gib: of the OS disk; None for the whole local disk.
    """
    disk = machine.temporary_gib if kubelet_disk == "Temporary" else os_disk_gib(machine, wanted_disk_gib)
    return Room(
        cores=round(machine.cores - reserved_cores(machine.cores) - _AGENTS_CORES, 3),
        memory_mib=int(machine.memory_mib * _MEMORY_SEEN)
        - reserved_memory_mib(machine.memory_mib, most_pods(machine))
        - _AGENTS_MEMORY_MIB,
        disk_mib=max(0, int(disk * 1024 * _DISK_USABLE) - _SYSTEM_DISK_MIB),
        pods=most_pods(machine),
    )
