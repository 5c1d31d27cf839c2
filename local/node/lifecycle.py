"""Start and stop of the node: each takes what it finds, whatever that is, to where it should be."""

import http.client
import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from local import commands
from local.node import checks, configuration, dns, host, images, packages, pki, policies, processes, second
from local.node.layout import (
    API_PORT,
    CONTROLLER_MANAGER_PORT,
    KUBELET_HEALTH_PORT,
    NETWORK_POLICIES_PORT,
    NODE_NAME,
    PODS,
    PROXY_HEALTH_PORT,
    SCHEDULER_PORT,
    SECOND_PODS,
    SERVICES,
    Layout,
    this_machine,
)
from local.node.processes import Daemon
from local.progress import Progress
from local.refusal import Refusal

READY_SECONDS = 180.0
PROBE_SECONDS = 5.0
POLL_SECONDS = 0.1
KUBECTL_SECONDS = 60.0
LOG_LINES = 15
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HEALTH = {
    "apiserver": (API_PORT, "/readyz", True),
    "controller-manager": (CONTROLLER_MANAGER_PORT, "/healthz", True),
    "scheduler": (SCHEDULER_PORT, "/healthz", True),
    "kubelet": (KUBELET_HEALTH_PORT, "/healthz", False),
    "proxy": (PROXY_HEALTH_PORT, "/healthz", False),
    "network-policies": (NETWORK_POLICIES_PORT, "/healthz", False),
}

# Read once: what `make` and the tests name in commands stays the same for the life of a process.
KUBECONFIG = this_machine().kubeconfig
KUBECTL = this_machine().programs / "kubectl"


def check() -> None:
    """Looks whether this machine can have a node, or has it.

    Raises:
        Refusal: it cannot, or must not.
    """
    for objection in checks.objections(_facts(this_machine())):
        raise Refusal(objection)


def start(progress: Progress, bin_dir: Path, nodes: int = 1) -> Path:
    """Starts the node, or what of it does not run; the administrator's kubeconfig.

    A node that runs is left as it is. A component that was given other words, other files or another program is
    replaced; pods live on. A second node that is not wanted is taken away with what runs on it.

    Args:
        progress: where long steps are told.
        bin_dir: holds kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, coredns and
            kube-network-policies.
        nodes: 1, or 2 for one more in namespaces of its own.

    Raises:
        Refusal: this machine cannot or must not have a node, or a component does not come up.
    """
    check()
    layout = this_machine()
    packages.install(layout.root.parent / "packages.log", progress)
    host.claim(layout)
    host.set_up(layout)
    _prepare(layout)
    pki.ensure(layout)
    _write({**_configuration(layout), **configuration.control_plane_files(layout)})
    _link_kubectl(bin_dir)
    begin = partial(_begin, layout, _daemons(layout, bin_dir), progress)
    begin("logs", "etcd", "containerd")
    _wait(layout, "etcd", partial(_accepts, layout.etcd_socket))
    begin("apiserver")
    _wait(layout, "containerd", partial(_accepts, layout.containerd_socket))
    coredns = images.coredns(bin_dir)
    _bring_in_own(layout, (images.pause(), coredns))
    _wait(layout, "apiserver", partial(_healthy, layout, "apiserver"))
    begin("controller-manager", "scheduler", "kubelet", "proxy")
    for name in ("controller-manager", "scheduler", "kubelet", "proxy"):
        _wait(layout, name, partial(_healthy, layout, name))
    _apply([*policies.objects(), *dns.objects(coredns.reference)])
    begin("network-policies")
    _wait(layout, "network-policies", partial(_healthy, layout, "network-policies"))
    _wait(layout, "kubelet", partial(_is_ready, layout), doing="becoming a Ready node")
    _wait(layout, "kubelet", dns.works, doing="getting the cluster's DNS to answer")
    if nodes == 1:
        _take_away(layout.second)
    else:
        _join(layout.second, layout, progress, bin_dir)
    return layout.kubeconfig


def stop() -> None:
    """Ends the node and undoes every change that it made; nothing where there is none.

    Raises:
        Refusal: the node is another user's, or something would not go.
    """
    layout = this_machine()
    owner = host.owner(layout)
    if owner is None and not layout.undo.exists():
        host.bury(layout)
        return
    if owner not in {None, str(layout.root)}:
        raise Refusal(f"the node on this machine is that of {owner}: stop it as the user who started it")
    if os.geteuid() != 0:
        raise Refusal("the node was started by root and must be stopped by root: say `sudo make down`")
    second.power_off(layout.second)
    processes.kill(processes.all_recorded(layout.processes))
    host.tear_down(layout)


def running() -> bool:
    """Whether every component of the node runs."""
    layout = this_machine()
    return all(
        processes.recorded(layout.processes / daemon.name) is not None
        for daemon in _daemons(layout, layout.programs).values()
    )


def import_images(archives: Iterable[Path]) -> list[str]:
    """Brings archives of images (Docker's or OCI's format) onto each node, but for what is there with the same content.

    Returns:
        The references of what was imported.

    Raises:
        Refusal: the node does not run, or an archive cannot be read or imported.
    """
    if not running():
        raise Refusal("importing images: the node does not run; start it with `make up`")
    first, wanted = this_machine(), list(archives)
    nodes = [first] if second.machine(first.second) is None else [first, first.second]
    return list(dict.fromkeys(reference for node in nodes for reference in images.bring_in(node, wanted)))


def environment() -> dict[str, str]:
    """The variables in which `kubectl` and `ctr` act on the node, past any proxy that this shell was told of."""
    layout = this_machine()
    subnets = map(str, (PODS, SERVICES, SECOND_PODS))
    beyond = ",".join([*filter(None, [os.environ.get("NO_PROXY")]), *subnets, ".svc", ".cluster.local"])
    return {
        "KUBECONFIG": str(layout.kubeconfig),
        "PATH": os.pathsep.join([str(layout.programs), os.environ.get("PATH", SYSTEM_PATH)]),
        "NO_PROXY": beyond,
        "no_proxy": beyond,
        "CONTAINERD_ADDRESS": str(layout.containerd_socket),
        "CONTAINERD_NAMESPACE": "k8s.io",
    }


def _facts(layout: Layout) -> checks.Facts:
    names = frozenset(checks.PORTS.values())
    stopped = frozenset(name for name in names if processes.recorded(layout.processes / name) is None)
    return checks.gather(layout, stopped, cold=stopped == names)


def _join(layout: Layout, first: Layout, progress: Progress, bin_dir: Path) -> None:
    """Starts the second node, or what of it does not run."""
    machine = second.machine(layout)
    if machine is None:
        progress.note(f"starting namespaces of {layout.name}")
        machine = second.boot(layout, first, _environment(layout))
    for directory in (layout.configuration, layout.cni):
        directory.mkdir(parents=True, exist_ok=True)
    pki.join(layout, first)
    _write(_configuration(layout))
    daemons = {daemon.name: second.within(machine, daemon) for daemon in configuration.components(layout, bin_dir)}
    begin = partial(_begin, layout, daemons, progress)
    begin("logs", "containerd")
    _wait(layout, "containerd", partial(_accepts, layout.containerd_socket))
    _bring_in_own(layout, (images.pause(), images.coredns(bin_dir)))
    begin("kubelet", "proxy", "network-policies")
    for name in ("kubelet", "proxy", "network-policies"):
        _wait(layout, name, partial(_healthy, layout, name))
    _wait(layout, "kubelet", partial(_is_ready, layout), doing="becoming a Ready node")


def _take_away(layout: Layout) -> None:
    """Ends the second node where there is one, and has the cluster forget it with its pods."""
    if layout.root.exists():
        second.power_off(layout)
        what = f"taking {layout.name} out of the cluster"
        _kubectl("delete", "node", layout.name, "--ignore-not-found", what=what)
        # Nobody but its kubelet would ever say that they have ended.
        gone = ("--all-namespaces", f"--field-selector=spec.nodeName={layout.name}")
        _kubectl("delete", "pods", *gone, "--force", "--grace-period=0", "--wait=false", what=what)
        host.remove_second(layout)


def _daemons(layout: Layout, bin_dir: Path) -> dict[str, Daemon]:
    """Of the first node."""
    both = (*configuration.control_plane(layout, bin_dir), *configuration.components(layout, bin_dir))
    return {daemon.name: daemon for daemon in both}


def _configuration(layout: Layout) -> Mapping[Path, str]:
    return configuration.files(layout, images.pause().reference)


def _prepare(layout: Layout) -> None:
    for directory in (layout.configuration, layout.cni, layout.processes, layout.logs / "audit", layout.programs):
        directory.mkdir(parents=True, exist_ok=True)
    layout.etcd_socket.parent.mkdir(mode=0o700, exist_ok=True)
    (layout.root / "etcd").mkdir(mode=0o700, exist_ok=True)


def _write(files: Mapping[Path, str]) -> None:
    for place, text in files.items():
        if not place.exists() or place.read_text() != text:
            place.write_text(text)


def _link_kubectl(bin_dir: Path) -> None:
    kubectl = shutil.which("kubectl", path=f"{bin_dir}{os.pathsep}{os.environ.get('PATH', SYSTEM_PATH)}")
    if kubectl is None:
        raise Refusal("kubectl is neither among the tools nor on PATH: run `make up` again")
    if not KUBECTL.exists():
        KUBECTL.unlink(missing_ok=True)
        KUBECTL.symlink_to(kubectl)


def _begin(layout: Layout, daemons: Mapping[str, Daemon], progress: Progress, *names: str) -> None:
    for name in names:
        if not processes.runs(daemons[name], layout.processes):
            progress.note(f"starting {name}" if layout.name == NODE_NAME else f"starting {name} of {layout.name}")
            log = layout.logs / f"{name}.log"
            processes.start(daemons[name], layout.processes, log, _environment(layout))


def _environment(layout: Layout) -> dict[str, str]:
    """A clean one: a proxy that the user's shell names would be asked for the API server."""
    return {"PATH": SYSTEM_PATH, "HOME": str(layout.root)}


def _wait(layout: Layout, name: str, condition: Callable[[], bool], *, doing: str = "getting ready") -> None:
    """Waits for a component.

    Raises:
        Refusal: it ended, or is not ready in time; the last lines of its log are in the sentence.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        trouble = None
        if processes.recorded(layout.processes / name) is None:
            trouble = f"{name} ended before {doing}"
        elif time.monotonic() > deadline:
            trouble = f"{name} takes more than {READY_SECONDS:.0f} s for {doing}"
        if trouble:
            log = layout.logs / f"{name}.log"
            tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            raise Refusal("\n".join([f"the node: {trouble}; run again, or see {log}, which ends so:", *tail]))
        time.sleep(POLL_SECONDS)


def _accepts(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(PROBE_SECONDS)
        try:
            channel.connect(str(place))
        except OSError:
            return False
        return True


def _get(layout: Layout, port: int, path: str, *, secure: bool = True) -> bytes | None:
    """What a component of a node answers to a GET by the administrator; none if it is not a success."""
    connection: http.client.HTTPConnection
    if secure:
        context = ssl.create_default_context(cafile=str(pki.authority_file(layout)))
        context.load_cert_chain(pki.leaf_file(layout, "admin"))
        connection = http.client.HTTPSConnection(str(layout.address), port, timeout=PROBE_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(str(layout.address), port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _healthy(layout: Layout, name: str) -> bool:
    port, path, secure = HEALTH[name]
    return _get(layout, port, path, secure=secure) is not None


def _is_ready(layout: Layout) -> bool:
    """Whether a node is Ready by the word of the kubelet that runs now, not by that of an earlier one."""
    kubelet = processes.recorded(layout.processes / "kubelet")
    body = _get(this_machine(), API_PORT, f"/api/v1/nodes/{layout.name}")
    return kubelet is not None and body is not None and is_ready(json.loads(body), since=processes.began(kubelet))


def is_ready(node: Mapping[str, Any], since: datetime) -> bool:
    """Whether a Node object says Ready, and said so after that moment (the API tells whole seconds)."""
    return any(
        condition["type"] == "Ready"
        and condition["status"] == "True"
        and datetime.fromisoformat(condition["lastHeartbeatTime"]) >= since.replace(microsecond=0)
        for condition in node.get("status", {}).get("conditions", ())
    )


def _bring_in_own(layout: Layout, own: Iterable[images.StaticImage]) -> None:
    there = images.present(layout)
    for image in own:
        if image.reference not in there:
            archive = layout.root / f"{image.name}.tar"
            image.write(archive)
            images.bring_in(layout, [archive])
            archive.unlink()


def _apply(objects: Iterable[Mapping[str, object]]) -> None:
    _kubectl(
        "apply", "--server-side", "--force-conflicts", "--field-manager=atlas-sites-node", "--filename=-",
        what="setting up what the node brings into the cluster",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
    )  # fmt: skip


def _kubectl(*words: str, what: str, stdin: str | None = None) -> None:
    commands.output(
        [KUBECTL, "--kubeconfig", KUBECONFIG, *words],
        what=what,
        seconds=KUBECTL_SECONDS,
        environment=environment(),
        stdin=stdin,
    )
