"""The node by itself: what every cluster must do, seen on the real one."""

import base64
import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import node as machine, tools
from local.node import configuration, processes
from local.node.layout import API_PORT, DNS_SERVICE_ADDRESS, NODE_ADDRESS, NODE_NAME, this_machine
from local.progress import Progress
from tests.cluster import toolbox
from tests.cluster.cluster import BOUND, WAIT_SECONDS, Cluster

pytestmark = pytest.mark.cluster

NAMESPACE = "node-test"
TRUSTED = "node-test-system"
LAYOUT = this_machine()


@pytest.fixture(scope="module")
def image(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    return toolbox.bring_in(tmp_path_factory.mktemp("toolbox"))


@pytest.fixture(scope="module")
def namespaces(node: Cluster) -> Iterator[None]:
    for name, level in ((NAMESPACE, "baseline"), (TRUSTED, "privileged")):
        node.kubectl("create", "namespace", name)
        node.kubectl("label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
        # A bare pod is refused until the controller has made the namespace's service account.
        node.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, BOUND)
    yield
    node.kubectl("delete", "namespace", NAMESPACE, TRUSTED, BOUND)


def pod(name: str, image: str, script: str, **changes: Any) -> dict[str, Any]:
    """A pod that runs a busybox script; `changes` are merged into its container, but for those of the pod itself."""
    of_pod = {key: changes.pop(key) for key in ("volumes", "securityContext_pod") if key in changes}
    spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": 0,
        "restartPolicy": "Never",
        "containers": [
            {
                "name": "main",
                "image": image,
                "command": [
                    "/busybox",
                    "sh",
                    "-c",
                    f"PATH=/bin; /busybox mkdir -p /bin; /busybox --install /bin; {script}",
                ],
                **changes,
            }
        ],
    }
    if "volumes" in of_pod:
        spec["volumes"] = of_pod["volumes"]
    if "securityContext_pod" in of_pod:
        spec["securityContext"] = of_pod["securityContext_pod"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def apply(node: Cluster, namespace: str, *objects: dict[str, Any]) -> None:
    node.kubectl(
        "apply", "-n", namespace, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )


def said(node: Cluster, namespace: str, wanted: dict[str, Any]) -> str:
    """Runs a pod to its end; what it printed."""
    name = wanted["metadata"]["name"]
    apply(node, namespace, wanted)
    with contextlib.ExitStack() as stack:
        stack.callback(node.kubectl, "delete", "pod", "-n", namespace, name, "--now")
        phases: list[str] = []

        def ended() -> bool:
            phases.append(node.kubectl("get", "pod", "-n", namespace, name, "-o", "jsonpath={.status.phase}"))
            return phases[-1] in {"Succeeded", "Failed"}

        node.eventually(ended, f"the end of pod {name}", namespace)
        output = node.kubectl("logs", "-n", namespace, name)
        assert phases[-1] == "Succeeded", output
        return output


def records() -> dict[str, str]:
    return {record.name: record.read_text() for record in LAYOUT.processes.iterdir()}


def start_again() -> Path:
    progress = Progress(total=1)
    return machine.start(progress, tools.ensure(progress, machine.TOOLS))


def api_status(path: str, token: str | None) -> int:
    """The status with which the API server answers a GET by the bearer of a token, or by nobody."""
    cluster = json.loads(LAYOUT.kubeconfig.read_text())["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    connection = http.client.HTTPSConnection(str(NODE_ADDRESS), API_PORT, timeout=WAIT_SECONDS, context=context)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
        return connection.getresponse().status


def test_the_node_is_ready_and_of_the_pinned_version(node: Cluster) -> None:
    seen = json.loads(node.kubectl("get", "node", NODE_NAME, "-o", "json"))
    assert {condition["type"]: condition["status"] for condition in seen["status"]["conditions"]}["Ready"] == "True"
    assert seen["status"]["nodeInfo"]["kubeletVersion"] == f"v{tools.pins()['kubernetes']}"


@pytest.mark.usefixtures("namespaces")
def test_a_pod_finds_a_service_by_its_name_and_reaches_it_even_from_its_own_backend(node: Cluster, image: str) -> None:
    backend = pod("web", image, "mkdir /www; echo it works > /www/index.html; exec httpd -f -p 8080 -h /www")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    apply(node, NAMESPACE, backend, service)
    node.kubectl("wait", "-n", NAMESPACE, "pod/web", "--for=condition=Ready", BOUND)
    name = f"web.{NAMESPACE}.svc.cluster.local"
    # Debian's static busybox dies in wget, so HTTP is spoken by hand.
    fetch = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {name} 80 | tail -n 1"
    client = pod("client", image, f"until {fetch} | grep works; do sleep 1; done")
    assert said(node, NAMESPACE, client).endswith("it works\n")
    hairpin = ["exec", "-n", NAMESPACE, "web", "--", "/busybox", "sh", "-c", f"PATH=/bin; {fetch}"]
    node.eventually(
        lambda: node.kubectl(*hairpin, check=False) == "it works\n", "its own backend reaches it", NAMESPACE
    )
    node.kubectl("delete", "-n", NAMESPACE, "pod/web", "service/web", "--now")


@pytest.mark.usefixtures("namespaces")
def test_every_pod_asks_the_clusters_own_dns(node: Cluster, image: str) -> None:
    assert f"nameserver {DNS_SERVICE_ADDRESS}\n" in said(
        node, NAMESPACE, pod("resolver", image, "cat /etc/resolv.conf")
    )


@pytest.mark.usefixtures("namespaces")
def test_a_pod_may_set_the_keepalive_of_its_sockets(node: Cluster, image: str) -> None:
    wanted = pod(
        "keepalive",
        image,
        "cat /proc/sys/net/ipv4/tcp_keepalive_time",
        securityContext_pod={"sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "180"}]},
    )
    assert said(node, NAMESPACE, wanted) == "180\n"


@pytest.mark.usefixtures("namespaces")
def test_what_a_privileged_pod_mounts_appears_in_an_unprivileged_one_that_runs_already(
    node: Cluster, image: str
) -> None:
    volume = {"name": "shared", "hostPath": {"path": "/var/cvmfs"}}
    consumer = pod(
        "consumer",
        image,
        "exec sleep 36000",
        volumes=[volume],
        volumeMounts=[
            {"name": "shared", "mountPath": "/shared", "mountPropagation": "HostToContainer", "readOnly": True}
        ],
    )
    mounter = pod(
        "mounter",
        image,
        "cd /shared; mkdir -p proof && mount -t tmpfs proof proof && echo mounted > proof/file && exec sleep 36000",
        volumes=[volume],
        volumeMounts=[{"name": "shared", "mountPath": "/shared", "mountPropagation": "Bidirectional"}],
        securityContext={"privileged": True},
    )
    apply(node, TRUSTED, consumer)
    node.kubectl("wait", "-n", TRUSTED, "pod/consumer", "--for=condition=Ready", BOUND)
    apply(node, TRUSTED, mounter)
    read = ["exec", "-n", TRUSTED, "consumer", "--", "/busybox", "cat", "/shared/proof/file"]
    node.eventually(lambda: node.kubectl(*read, check=False) == "mounted\n", "the mount in the consumer", TRUSTED)
    clean = ["exec", "-n", TRUSTED, "mounter", "--", "/busybox", "sh", "-c"]
    node.kubectl(*clean, "/busybox umount /shared/proof && /busybox rmdir /shared/proof")
    assert "No such file" in node.kubectl(*read, check=False)
    node.kubectl("delete", "-n", TRUSTED, "pod/mounter", "pod/consumer", "--now")


@pytest.mark.usefixtures("namespaces")
def test_a_privileged_pod_can_open_the_fuse_device(node: Cluster, image: str) -> None:
    wanted = pod("fuse", image, "exec 3<>/dev/fuse && echo open", securityContext={"privileged": True})
    assert said(node, TRUSTED, wanted) == "open\n"


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"securityContext": {"privileged": True}}, "privileged"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "hostPath"),
    ],
)
def test_a_baseline_namespace_refuses_privileged_and_hostpath_pods(
    node: Cluster, image: str, changes: dict[str, Any], complaint: str
) -> None:
    refused = node.kubectl(
        "apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(pod("intruder", image, "true", **changes)), check=False
    )
    assert 'violates PodSecurity "baseline' in refused
    assert complaint in refused


@pytest.mark.usefixtures("namespaces")
def test_a_service_account_reads_no_secrets_and_nobody_reads_nothing(node: Cluster) -> None:
    token = node.kubectl("create", "token", "-n", NAMESPACE, "default").strip()
    assert api_status("/version", token) == http.client.OK
    assert api_status(f"/api/v1/namespaces/{NAMESPACE}/secrets", token) == http.client.FORBIDDEN
    assert api_status("/version", None) == http.client.UNAUTHORIZED


@pytest.mark.usefixtures("namespaces")
def test_who_made_a_secret_is_in_the_audit_log_and_what_is_in_it_is_not(node: Cluster) -> None:
    node.kubectl("create", "secret", "generic", "-n", NAMESPACE, "noted", "--from-literal=key=hidden-from-the-log")
    log = configuration.audit_log(LAYOUT)

    def entries() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines() if '"noted"' in line and line.endswith("}")]

    node.eventually(entries, "an audit entry", NAMESPACE)
    assert {(entry["verb"], entry["user"]["username"]) for entry in entries()} == {("create", "admin")}
    assert base64.b64encode(b"hidden-from-the-log").decode() not in log.read_text()


def test_a_second_start_changes_nothing(node: Cluster) -> None:
    def state() -> tuple[dict[str, str], str]:
        # Status goes on changing by itself; the generation changes with what was asked for only.
        return records(), node.kubectl(
            "get", "deployments,services,configmaps", "-n", "kube-system", "-o",
            "jsonpath={range .items[*]}{.metadata.uid} {.metadata.generation} {.data}{end}",
        )  # fmt: skip

    before = state()
    assert start_again() == node.kubeconfig
    assert state() == before


def test_an_image_that_is_there_is_not_imported_again(node: Cluster, image: str, tmp_path: Path) -> None:
    archive = tmp_path / "toolbox.tar"
    toolbox.image().write(archive)
    assert machine.import_images([archive]) == []


@pytest.mark.parametrize(
    "name",
    ["etcd", "containerd", "apiserver", "controller-manager", "scheduler", "kubelet", "proxy", "network-policies"],
)
def test_a_component_that_was_killed_is_brought_back_and_pods_live_on(node: Cluster, name: str) -> None:
    def dns_container() -> str:
        return node.kubectl(
            "get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns", "-o",
            "jsonpath={.items[*].status.containerStatuses[*].containerID}",
        )  # fmt: skip

    before, pods = records(), dns_container()
    victim = processes.recorded(LAYOUT.processes / name)
    assert victim is not None
    processes.kill([victim])
    assert not machine.running()
    start_again()
    assert machine.running()
    assert {component for component, record in records().items() if record != before[component]} == {name}
    assert dns_container() == pods
