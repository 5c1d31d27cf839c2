"""A control plane of this benchmark's own: real programs on loopback, fake nodes by kwok, all in one directory."""

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx

from local.authority import CLIENT, SERVER, Authority, Leaf, elliptic, pem, write

HOST = "127.0.0.1"
STAGES = Path(__file__).with_name("stages.yaml")
ETCD_QUOTA_BYTES = 4 * 2**30
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
# The users, each with a count of its own in the API server's metrics. The two that Kubernetes knows have one already.
SUBJECT, FAKE_NODES, DRIVER = "subject", "fake-nodes", "driver"
CONTROLLER_MANAGER, SCHEDULER = "kube-controller-manager", "kube-scheduler"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a client of the API server may do: calls a second, calls at once after a rest, workers side by side."""

    qps: float
    burst: int
    workers: int


@dataclass(kw_only=True)
class Plane:
    """The processes, and how to reach them."""

    directory: Path
    programs: Mapping[str, Path]
    port: int
    processes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{HOST}:{self.port}"

    def kubeconfig(self, user: str) -> Path:
        """The file by which that user reaches it."""
        return self.directory / f"{user}.kubeconfig"

    def tls(self, user: str) -> ssl.SSLContext:
        """The same, for a client of our own."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        context.load_cert_chain(self.directory / f"{user}.pem")
        return context

    def client(self, user: str = DRIVER) -> httpx.Client:
        """A client for what the benchmark itself does."""
        return httpx.Client(base_url=self.server, verify=self.tls(user), timeout=60, trust_env=False)

    def start(self, name: str, command: Sequence[object], **environment: str) -> "subprocess.Popen[bytes]":
        """A process that ends with the plane; what it prints is in NAME.log."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), **environment},
            )
        self.processes[name] = process
        return process

    def stop(self, name: str) -> None:
        """Ends one process, by force if it does not end by itself."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def controller_manager(self, pace: Pace | None) -> "subprocess.Popen[bytes]":
        """The built-in Job and ReplicaSet controllers and no other, at this pace or at their own."""
        flags = (
            []
            if pace is None
            else [
                f"--kube-api-qps={pace.qps:g}",
                f"--kube-api-burst={pace.burst}",
                f"--concurrent-job-syncs={pace.workers}",
                f"--concurrent-replicaset-syncs={pace.workers}",
            ]
        )
        return self.start(
            CONTROLLER_MANAGER,
            [
                self.programs["kube-controller-manager"],
                "--controllers=job-controller,replicaset-controller",
                f"--kubeconfig={self.kubeconfig(CONTROLLER_MANAGER)}",
                "--leader-elect=false",
                "--secure-port=0",
                *flags,
            ],
        )


@contextmanager
def plane(directory: Path, programs: Mapping[str, Path], pace: Pace | None) -> Iterator[Plane]:
    """A fresh control plane: etcd, API server, scheduler and kwok; nothing of it is left afterwards.

    Args:
        directory: for all that it writes; made, and taken away at the end.
        programs: by name, with kwok and etcd among them.
        pace: of the scheduler; None is its own.
    """
    directory.mkdir(parents=True)
    made = Plane(directory=directory, programs=programs, port=_free_port())
    try:
        _certificates(made)
        _begin(made, pace)
        yield made
    finally:
        for name in reversed(list(made.processes)):
            made.stop(name)
        shutil.rmtree(directory)


def _begin(made: Plane, pace: Pace | None) -> None:
    directory, programs = made.directory, made.programs
    etcd, peers = f"http://{HOST}:{_free_port()}", f"http://{HOST}:{_free_port()}"
    made.start(
        "etcd",
        [
            programs["etcd"],
            f"--data-dir={directory / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            f"--quota-backend-bytes={ETCD_QUOTA_BYTES}",
            "--log-level=warn",
            "--logger=zap",
        ],
    )
    made.start(
        "kube-apiserver",
        [
            programs["kube-apiserver"],
            f"--etcd-servers={etcd}",
            f"--bind-address={HOST}",
            f"--secure-port={made.port}",
            # An address of loopback may not be an endpoint, and nobody needs one.
            "--endpoint-reconciler-type=none",
            f"--cert-dir={directory}",
            f"--tls-cert-file={directory / 'kube-apiserver.pem'}",
            f"--tls-private-key-file={directory / 'kube-apiserver.pem'}",
            f"--client-ca-file={directory / 'ca.crt'}",
            "--anonymous-auth=false",
            # Rights are the cluster tests' matter, and who may do all costs everybody the same.
            "--authorization-mode=AlwaysAllow",
            # No controller makes service accounts here, and none takes the taint off that a new node gets.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
            # Both need an etcd of 3.5 that can say how far it is; with Debian 12's they only wait in vain.
            "--feature-gates=WatchList=false,SizeBasedListCostEstimate=false",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={directory / 'service-accounts.key'}",
            f"--service-account-signing-key-file={directory / 'service-accounts.key'}",
            "--profiling=false",
        ],
    )
    with made.client() as client:
        _await_ready(made, client)
        for user in (SUBJECT, FAKE_NODES, DRIVER):
            client.post("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", json=_counted(user)).raise_for_status()
    settings: dict[str, object] = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": False},
        "clientConnection": {
            "kubeconfig": str(made.kubeconfig(SCHEDULER)),
            **({"qps": pace.qps, "burst": pace.burst} if pace else {}),
        },
        **({"parallelism": pace.workers} if pace else {}),
    }
    (directory / "scheduler.json").write_text(json.dumps(settings))
    made.start(SCHEDULER, [programs["kube-scheduler"], f"--config={directory / 'scheduler.json'}", "--secure-port=0"])
    made.start(
        "kwok",
        [
            programs["kwok"],
            f"--kubeconfig={made.kubeconfig(FAKE_NODES)}",
            f"--config={STAGES}",
            "--manage-all-nodes=true",
            # Without a node controller nobody reads leases: a hundred writes a second less.
            "--node-lease-duration-seconds=0",
            "--node-port=0",
            "--v=WARN",
        ],
    )


def _await_ready(made: Plane, client: httpx.Client) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline or made.processes["kube-apiserver"].poll() is not None:
            told = (made.directory / "kube-apiserver.log").read_text()[-2000:]
            raise RuntimeError(f"the API server is not ready:\n{told}")
        time.sleep(0.2)


def _counted(user: str) -> dict[str, object]:
    """A flow of the user's own, at the level that built-in controllers have, so that its calls are counted."""
    rule = {
        "subjects": [{"kind": "User", "user": {"name": user}}],
        "resourceRules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
        ],
    }
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": user},
        "spec": {
            "matchingPrecedence": 50,
            "priorityLevelConfiguration": {"name": "workload-high"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [rule],
        },
    }


def _certificates(made: Plane) -> None:
    now, directory = datetime.now(UTC), made.directory
    authority = Authority.ensure("benchmark authority", directory / "ca.key", directory / "ca.crt", now)
    write(directory / "service-accounts.key", pem(elliptic()))
    for name, user in (
        ("kube-apiserver", "kube-apiserver"),
        *((user, user) for user in (SUBJECT, FAKE_NODES, DRIVER)),
        *((user, f"system:{user}") for user in (CONTROLLER_MANAGER, SCHEDULER)),
    ):
        leaf = Leaf(
            name=name,
            user=user,
            usages=(CLIENT, SERVER),
            addresses=(IPv4Address(HOST),),
            life=timedelta(days=1),
            renew_before=timedelta(0),
        )
        key = elliptic()
        write(directory / f"{name}.pem", pem(authority.issue(leaf, key, now)) + pem(key))
        made.kubeconfig(name).write_text(json.dumps(_kubeconfig(made, name)))


def _kubeconfig(made: Plane, name: str) -> dict[str, object]:
    own, directory = str(made.directory / f"{name}.pem"), made.directory
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": made.server, "certificate-authority": str(directory / "ca.crt")}}
        ],
        "users": [{"name": "u", "user": {"client-certificate": own, "client-key": own}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((HOST, 0))
        return int(one.getsockname()[1])
