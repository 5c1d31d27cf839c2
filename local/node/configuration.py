"""What the components are told: their configuration files and command lines, as pure functions of the layout."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from local.node import logs, pki
from local.node.layout import (
    API_PORT,
    BRIDGE,
    CLUSTER_DOMAIN,
    CNI_NETWORK,
    CONTROLLER_MANAGER_PORT,
    DNS_SERVICE_ADDRESS,
    KUBELET_HEALTH_PORT,
    KUBELET_PORT,
    NETWORK_POLICIES_PORT,
    NODE_ADDRESS,
    NODE_NAME,
    POLICY_TABLE,
    PROXY_HEALTH_PORT,
    PROXY_METRICS_PORT,
    SCHEDULER_PORT,
    SERVICES,
    Layout,
)
from local.node.processes import Daemon

# Of local.tools: those whose programs a node is made of.
TOOLS = ("kubernetes", "coredns", "kube-network-policies")
CNI_PROGRAMS = Path("/usr/lib/cni")
PODS_PER_NODE = 110
AUDIT_MEBIBYTES = 16
AUDIT_FILES = 3
# etcd compacts by itself what the API server forgets; 1 GiB is half its default and many times what a site holds.
ETCD_QUOTA_BYTES = 2**30
# Absolute, because 5 % of a laptop's disk are tens of GiB that a site of 2 GiB does not need. What is evicted here is
# a payload, so the memory bound is low: the kernel acts first on a container that passes its own limit.
EVICTION = {
    "memory.available": "200Mi",
    "nodefs.available": "1Gi",
    "imagefs.available": "1Gi",
    "nodefs.inodesFree": "1%",
}

# The groups of requests that come by the hundred and tell nothing: leases, events, reads by the components themselves.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}, {"group": "", "resources": ["events"]}]},
        {"level": "None", "resources": [{"group": "events.k8s.io"}]},
        {
            "level": "None",
            "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*", "/metrics"],
        },
        {
            "level": "None",
            "verbs": ["get", "list", "watch"],
            "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"],
        },
        {
            "level": "None",
            "verbs": ["get", "list", "watch"],
            "users": [
                "system:apiserver",
                "system:kube-controller-manager",
                "system:kube-scheduler",
                "system:kube-proxy",
            ],
        },
        {"level": "Metadata"},
    ],
}


def containerd(layout: Layout, pause_image: str) -> str:
    """The container runtime's configuration, in a root, a state and a socket of its own."""
    # Without CAP_SYS_RESOURCE (machines that are containers themselves) no score below our own can be set. An AppArmor
    # profile would stay loaded after the node, and forbids the mounts by which Apptainer starts a payload.
    return f"""version = 2
root = "{layout.root}/containerd"
state = "{layout.containerd_state}"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt",
]
[grpc]
  address = "{layout.containerd_socket}"
[ttrpc]
  address = "{layout.containerd_socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{layout.cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{layout.run}/runc"
"""


def network(layout: Layout) -> Mapping[str, object]:
    """The pod network: a port of our bridge for each pod.

    The bridge is not the plugin's gateway: the plugin would switch forwarding on for every interface of the machine.
    """
    return {
        "cniVersion": "0.4.0",
        "name": CNI_NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": False,
                "ipMasq": False,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.run / "addresses"),
                    "ranges": [
                        [
                            {
                                "subnet": str(layout.pods),
                                "rangeStart": str(layout.first_pod_address),
                                "gateway": str(layout.address),
                            }
                        ]
                    ],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }


def kubelet(layout: Layout) -> Mapping[str, object]:
    """The kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(layout.address),
        "port": KUBELET_PORT,
        "healthzBindAddress": str(layout.address),
        "healthzPort": KUBELET_HEALTH_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki.authority_file(layout))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki.leaf_file(layout, "kubelet")),
        "tlsPrivateKeyFile": str(pki.leaf_file(layout, "kubelet")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "seccompDefault": True,
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "clusterDNS": [str(DNS_SERVICE_ADDRESS)],
        "clusterDomain": CLUSTER_DOMAIN,
        # The host's own resolver is of no use to a pod: there is no way out of the bridge.
        "resolvConf": "",
        "podLogsDir": str(layout.root / "pod-logs"),
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 2,
        "volumePluginDir": str(layout.root / "volume-plugins"),
        "makeIPTablesUtilChains": False,
        "maxPods": PODS_PER_NODE,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": EVICTION,
        "serializeImagePulls": False,
    }


def proxy(layout: Layout) -> Mapping[str, object]:
    """kube-proxy's configuration: one nftables table of a known name, and no connection tracking tuned."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(pki.kubeconfig_file(layout, "proxy"))},
        "clusterCIDR": str(layout.pods),
        "hostnameOverride": layout.name,
        "bindAddress": str(layout.address),
        "healthzBindAddress": f"{layout.address}:{PROXY_HEALTH_PORT}",
        "metricsBindAddress": f"{layout.address}:{PROXY_METRICS_PORT}",
        "oomScoreAdj": 0,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def files(layout: Layout, pause_image: str) -> Mapping[Path, str]:
    """Every configuration file of a node with its content."""
    return {
        layout.configuration / "containerd.toml": containerd(layout, pause_image),
        layout.configuration / "kubelet.json": _json(kubelet(layout)),
        layout.configuration / "proxy.json": _json(proxy(layout)),
        layout.cni / f"10-{CNI_NETWORK}.conflist": _json(network(layout)),
    }


def control_plane_files(layout: Layout) -> Mapping[Path, str]:
    """Those of the first node alone."""
    return {layout.configuration / "audit.json": _json(AUDIT_POLICY)}


def control_plane(layout: Layout, binaries: Path) -> tuple[Daemon, ...]:
    """The components that a cluster has once, on its first node.

    Args:
        layout: where that node lies.
        binaries: the directory of the Kubernetes programs; the others are packages of the system.
    """
    authority = pki.authority_file(layout)
    service_accounts = pki.service_account_key(layout)
    # etcd wants a host and a port of every address: the two together are the socket's name in its working directory.
    peer_socket = layout.etcd_socket.with_name("peer:0")
    etcd, peers = f"unix://{layout.etcd_socket.name}", f"unix://{peer_socket.name}"
    return (
        Daemon(
            name="etcd",
            command=(
                "/usr/bin/etcd",
                f"--name={NODE_NAME}",
                f"--data-dir={layout.root / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster={NODE_NAME}={peers}",
                f"--quota-backend-bytes={ETCD_QUOTA_BYTES}",
                "--log-level=warn",
                "--logger=zap",
            ),
            directory=layout.etcd_socket.parent,
            sockets=(layout.etcd_socket, peer_socket),
        ),
        Daemon(
            name="apiserver",
            command=(
                str((binaries / "kube-apiserver").resolve()),
                f"--etcd-servers=unix://{layout.etcd_socket}",
                f"--bind-address={NODE_ADDRESS}",
                f"--advertise-address={NODE_ADDRESS}",
                f"--secure-port={API_PORT}",
                f"--tls-cert-file={pki.leaf_file(layout, 'apiserver')}",
                f"--tls-private-key-file={pki.leaf_file(layout, 'apiserver')}",
                f"--client-ca-file={authority}",
                "--anonymous-auth=false",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction,PodSecurity",
                "--allow-privileged=true",
                f"--service-cluster-ip-range={SERVICES}",
                f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
                f"--service-account-key-file={service_accounts}",
                f"--service-account-signing-key-file={service_accounts}",
                f"--kubelet-certificate-authority={authority}",
                f"--kubelet-client-certificate={pki.leaf_file(layout, 'apiserver-to-kubelet')}",
                f"--kubelet-client-key={pki.leaf_file(layout, 'apiserver-to-kubelet')}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--audit-policy-file={layout.configuration / 'audit.json'}",
                f"--audit-log-path={audit_log(layout)}",
                f"--audit-log-maxsize={AUDIT_MEBIBYTES}",
                f"--audit-log-maxbackup={AUDIT_FILES - 1}",
                "--profiling=false",
            ),
            reads=(
                authority,
                service_accounts,
                layout.configuration / "audit.json",
                pki.leaf_file(layout, "apiserver"),
                pki.leaf_file(layout, "apiserver-to-kubelet"),
            ),
        ),
        Daemon(
            name="controller-manager",
            command=(
                str((binaries / "kube-controller-manager").resolve()),
                *_authenticated(layout, "controller-manager"),
                f"--bind-address={NODE_ADDRESS}",
                f"--secure-port={CONTROLLER_MANAGER_PORT}",
                f"--root-ca-file={authority}",
                f"--service-account-private-key-file={service_accounts}",
                "--use-service-account-credentials=true",
                f"--cluster-signing-cert-file={authority}",
                f"--cluster-signing-key-file={pki.authority_key(layout)}",
                f"--cluster-name={NODE_NAME}",
                f"--flex-volume-plugin-dir={layout.root / 'volume-plugins'}",
                "--leader-elect=false",
                "--profiling=false",
            ),
            reads=(authority, service_accounts, pki.leaf_file(layout, "controller-manager")),
        ),
        Daemon(
            name="scheduler",
            command=(
                str((binaries / "kube-scheduler").resolve()),
                *_authenticated(layout, "scheduler"),
                f"--bind-address={NODE_ADDRESS}",
                f"--secure-port={SCHEDULER_PORT}",
                "--leader-elect=false",
                "--profiling=false",
            ),
            reads=(authority, pki.leaf_file(layout, "scheduler")),
        ),
    )


def components(layout: Layout, binaries: Path) -> tuple[Daemon, ...]:
    """What each node has; arguments as above."""
    return (
        # Not sys.executable: that is `python` for one caller and `python3` for the next.
        Daemon(name="logs", command=(f"{sys.prefix}/bin/python", "-I", str(Path(logs.__file__)), str(layout.logs))),
        Daemon(
            name="containerd",
            command=("/usr/bin/containerd", f"--config={layout.configuration / 'containerd.toml'}"),
            reads=(layout.configuration / "containerd.toml",),
        ),
        Daemon(
            name="kubelet",
            command=(
                str((binaries / "kubelet").resolve()),
                f"--config={layout.configuration / 'kubelet.json'}",
                f"--kubeconfig={pki.kubeconfig_file(layout, 'kubelet')}",
                f"--root-dir={layout.root / 'kubelet'}",
                f"--hostname-override={layout.name}",
                f"--node-ip={layout.address}",
            ),
            reads=(
                pki.authority_file(layout),
                layout.configuration / "kubelet.json",
                pki.kubeconfig_file(layout, "kubelet"),
            ),
        ),
        Daemon(
            name="proxy",
            command=(str((binaries / "kube-proxy").resolve()), f"--config={layout.configuration / 'proxy.json'}"),
            reads=(layout.configuration / "proxy.json", pki.kubeconfig_file(layout, "proxy")),
        ),
        Daemon(
            name="network-policies",
            command=(
                str((binaries / "kube-network-policies").resolve()),
                f"--kubeconfig={pki.kubeconfig_file(layout, 'network-policies')}",
                f"--node={layout.name}",
                f"--table={POLICY_TABLE}",
                f"--bridge={BRIDGE}",
                f"--pods={layout.pods}",
                f"--listen={layout.address}:{NETWORK_POLICIES_PORT}",
            ),
            reads=(pki.kubeconfig_file(layout, "network-policies"),),
        ),
    )


def audit_log(layout: Layout) -> Path:
    """The API server's audit log, which it rotates by itself."""
    return layout.logs / "audit" / "audit.log"


def _authenticated(layout: Layout, name: str) -> tuple[str, ...]:
    """How a component shows who it is, and asks the API server about those who call it."""
    own, leaf = pki.kubeconfig_file(layout, name), pki.leaf_file(layout, name)
    return (
        f"--kubeconfig={own}",
        f"--authentication-kubeconfig={own}",
        f"--authorization-kubeconfig={own}",
        f"--tls-cert-file={leaf}",
        f"--tls-private-key-file={leaf}",
    )


def _json(value: Mapping[str, object]) -> str:
    """YAML enough for every component, and no quoting to go wrong."""
    return json.dumps(value, indent=2) + "\n"
