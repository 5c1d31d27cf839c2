"""Where a node lies: its addresses, its files and the names that are its own."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from local.paths import state_dir

NODE_NAME = "atlas-local"
# Of a node's pods; each node has one of this name in its own network namespace.
BRIDGE = "atlas0"
# Between nodes: it stays when one of them is cut off, as a switch does.
NETWORK = "atlas1"
CLUSTER_DOMAIN = "cluster.local"

PODS = IPv4Network("10.213.0.0/24")
SERVICES = IPv4Network("10.213.1.0/24")
SECOND_PODS = IPv4Network("10.213.2.0/24")
# One address serves as the bridge's, the node's, the API server's and the pods' gateway.
NODE_ADDRESS = PODS[1]
API_SERVICE_ADDRESS = SERVICES[1]
DNS_SERVICE_ADDRESS = SERVICES[10]

API_PORT = 6443
KUBELET_PORT = 10250
KUBELET_HEALTH_PORT = 10248
PROXY_HEALTH_PORT = 10256
PROXY_METRICS_PORT = 10249
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259
NETWORK_POLICIES_PORT = 10261

# Where CVMFS is mounted on every node of every cluster.
CVMFS = Path("/var/cvmfs")
# Ours alone, by name.
RUN = Path("/run/atlas-sites")
CGROUP = "atlas-sites"
CNI_NETWORK = "atlas-sites"
POLICY_TABLE = "atlas-sites"
# What no flag moves: kubelet, containerd's shim and libcni make these, and hostPath volumes of the dev site the last.
KUBELET_DIRECTORY = Path("/var/lib/kubelet")
PROFILES = KUBELET_DIRECTORY / "seccomp"
SHARED_PLACES = (
    KUBELET_DIRECTORY,
    Path("/var/log/containers"),
    Path("/var/lib/cni"),
    Path("/run/containerd"),
    CVMFS,
    Path("/var/cvmfs-cache"),
)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A node's files below one directory of the user's state, its name and its part of the network.

    What lives as long as the node lies there; sockets and the state of running containers lie in `run`.
    """

    root: Path
    run: Path = RUN
    name: str = NODE_NAME
    pods: IPv4Network = PODS
    cgroup: str = CGROUP

    @property
    def second(self) -> "Layout":
        """Of the node that may join this one, in namespaces of its own; all of it lies within ours."""
        return Layout(
            root=self.root / "second",
            run=self.run / "second",
            name=f"{self.name}-2",
            pods=SECOND_PODS,
            cgroup=f"{self.cgroup}/second",
        )

    @property
    def address(self) -> IPv4Address:
        """The node's own, which is its pods' gateway too."""
        return self.pods[1]

    @property
    def first_pod_address(self) -> IPv4Address:
        """The lowest that a pod gets."""
        return self.pods[10]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.root / "admin.kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates, keys and the components' own kubeconfigs."""
        return self.root / "pki"

    @property
    def configuration(self) -> Path:
        """What the components read."""
        return self.root / "configuration"

    @property
    def cni(self) -> Path:
        """The pod network's configuration, alone in its directory."""
        return self.root / "cni"

    @property
    def processes(self) -> Path:
        """One record for each process that we started."""
        return self.root / "processes"

    @property
    def logs(self) -> Path:
        """One file for each component, and the audit log."""
        return self.root / "log"

    @property
    def programs(self) -> Path:
        """Links to kubectl and ctr."""
        return self.root / "bin"

    @property
    def cvmfs(self) -> Path:
        """What is bound to /var/cvmfs, by which that mount is known as ours."""
        return self.root / "cvmfs"

    @property
    def profiles(self) -> Path:
        """Where the kubelet looks for seccomp profiles."""
        return self.root / "kubelet" / "seccomp"

    @property
    def undo(self) -> Path:
        """What the machine was like before."""
        return self.root / "undo.json"

    @property
    def grave(self) -> Path:
        """What the files are called while they are being removed."""
        return self.root.with_name(f"{self.root.name}-removed")

    @property
    def owner(self) -> Path:
        """Says which state directory this machine's node belongs to."""
        return self.run / "owner"

    @property
    def etcd_socket(self) -> Path:
        """A socket that only root reaches: etcd knows no other authorization here."""
        return self.run / "etcd" / "client:0"

    @property
    def containerd_socket(self) -> Path:
        """The container runtime's."""
        return self.run / "containerd.sock"

    @property
    def containerd_state(self) -> Path:
        """Bundles of running containers and the pods' network namespaces."""
        return self.run / "containerd"


def this_machine() -> Layout:
    """The layout of the node of this user on this machine."""
    return Layout(root=state_dir().resolve() / "node")
