"""What a node of EKS is, and what pods may request of it: known before there is one.

Pure. What EKS keeps of a node: awslabs/amazon-eks-ami, nodeadm/internal/kubelet/config.go at 81fec2e (2026-07-23).
"""

import ipaddress
import textwrap
from dataclasses import dataclass

import yaml

from components.cluster.machines import Machine, Room

SERVICES_NETWORK = "172.20.0.0/16"
# What a VPC may be, and with how much of it all parts still fit.
PREFIXES = (16, 24)
# EKS's quota of one node group.
NODES_MOST = 450
# The NAT gateway's, whatever one says: docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html.
NAT_IDLE_SECONDS = 350
# The OS and the cache of CVMFS, which local disks do not take; on system nodes images and emptyDir too.
ROOT_DISK_GIB = 100
# Addresses that AWS keeps of each subnet, and that a node has beside one for each pod: its interfaces' own and spares.
KEPT_ADDRESSES = 5
NODE_ADDRESSES = 6
SPARE_ADDRESSES = 2
# Other parts of a subnet: the NAT gateway, and what EKS wants in a second zone.
_SMALL_PREFIX = 28
# The most pods that EKS lets a managed node take, by its cores: below 30, and from there on.
_MANAGED_PODS = (30, 110, 250)
_PODS_LEAST = 30
_AGENT_PODS = 20
# On each node: EKS's agents (VPC CNI, kube-proxy, pod identity) and the pod that mounts CVMFS. An estimate, to the safe
# side: what they request changes with EKS's releases.
_AGENTS_CORES = 0.5
_AGENTS_MEMORY_MIB = 1024
# Cores that EKS keeps: so much of each of so many cores, the rest of them last.
_CORE_STEPS = ((1, 0.06), (1, 0.01), (2, 0.005))
_CORE_REST = 0.0025
_EVICTION_MIB = 100
# Of a machine's memory, the rest being the hypervisor's and the kernel's: Karpenter's own figure for EC2.
_MEMORY_SEEN = 0.925
# Of the local disks: what the file system takes and what the kubelet evicts at, what EKS keeps, and our images.
_FILE_SYSTEM, _EVICTION = 0.02, 0.10
_KEPT_DISK_MIB = 1024
_IMAGES_MIB = 30 * 1024
_BOUNDARY = "atlas-sites"


@dataclass(frozen=True, kw_only=True)
class Subnets:
    """The parts of a site's network, as CIDRs.

    Attributes:
        nodes: of all nodes and pods, in the site's zone.
        public: of the NAT gateway, in the same.
        second: of the second zone, without which EKS makes no cluster.
    """

    nodes: str
    public: str
    second: str


def subnets(network: str) -> Subnets:
    """The parts of a network: nodes and pods have the first half."""
    nodes, rest = ipaddress.ip_network(network).subnets(prefixlen_diff=1)
    public, second, *_ = rest.subnets(new_prefix=_SMALL_PREFIX)
    return Subnets(nodes=str(nodes), public=str(public), second=str(second))


def most_pods(machine: Machine) -> int:
    """Pods that a node for startds takes: one a core, and the agents."""
    few, fewer_pods, more_pods = _MANAGED_PODS
    managed = fewer_pods if machine.cores < few else more_pods
    return min(managed, machine.address_pods, max(_PODS_LEAST, machine.cores + _AGENT_PODS))


def addresses(machine: Machine, nodes: int) -> int:
    """Addresses that so many nodes and their pods take."""
    return nodes * (most_pods(machine) + NODE_ADDRESSES)


def reserved_cores(cores: int) -> float:
    """What EKS keeps of the cores for the kubelet and its like."""
    kept, rest = 0.0, float(cores)
    for size, share in _CORE_STEPS:
        kept += min(rest, size) * share
        rest = max(0.0, rest - size)
    return kept + rest * _CORE_REST


def reserved_memory_mib(machine: Machine) -> int:
    """What EKS keeps of the memory: for as many pods as there could be addresses, with what the kubelet wants free."""
    return 255 + 11 * machine.address_pods + _EVICTION_MIB


def room(machine: Machine) -> Room:
    """What pods may request of a node of this machine type."""
    usable = machine.disk_gib * 1024 * (1 - _FILE_SYSTEM) * (1 - _EVICTION)
    return Room(
        cores=round(machine.cores - reserved_cores(machine.cores) - _AGENTS_CORES, 3),
        memory_mib=int(machine.memory_mib * _MEMORY_SEEN) - reserved_memory_mib(machine) - _AGENTS_MEMORY_MIB,
        disk_mib=max(0, int(usable) - _KEPT_DISK_MIB - _IMAGES_MIB),
        pods=most_pods(machine) - _AGENT_PODS,
    )


def user_data(*, local_disks: bool, pods: int | None) -> str:
    """What a node is told when it starts, as MIME; EKS adds how its cluster is reached.

    Args:
        local_disks: the kubelet, images and logs of pods are on all local disks together. Without this EKS leaves them
            unused, and all is on the root disk.
        pods: that the node takes; EKS's own reckoning by default.
    """
    spec = {
        **({"instance": {"localStorage": {"strategy": "RAID0"}}} if local_disks else {}),
        **({} if pods is None else {"kubelet": {"config": {"maxPods": pods}}}),
    }
    config = yaml.safe_dump({"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec})
    head = textwrap.dedent(f"""\
        MIME-Version: 1.0
        Content-Type: multipart/mixed; boundary="{_BOUNDARY}"

        --{_BOUNDARY}
        Content-Type: application/node.eks.aws

        """)
    return f"{head}{config}\n--{_BOUNDARY}--\n"
