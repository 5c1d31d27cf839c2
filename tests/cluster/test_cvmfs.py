"""The dev site's CVMFS image on the real node: read through propagation and squid alone, back after it was killed."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.squid import CACHE, CONFIGURATION, STATE, SquidsArgs, configuration
from local import images, node as machine, repository
from local.progress import Progress
from tests.cluster.cluster import BOUND, Cluster

pytestmark = pytest.mark.cluster

NAMESPACE = "cvmfs-test"
ORIGIN = f"origin.{NAMESPACE}.svc.cluster.local"
SQUID = f"http://squid.{NAMESPACE}.svc.cluster.local:3128"
DIRECTORY = f"/var/cvmfs/{NAMESPACE}"
README = f"/cvmfs/{repository.REPOSITORY}/README"


def mounter(name: str, image: str, wanted: str, directory: str) -> dict[str, Any]:
    environment = {
        "CVMFS_REPOSITORIES": wanted,
        "CVMFS_HTTP_PROXY": f"http://nobody.{NAMESPACE}.svc.cluster.local:3128|{SQUID}",
        "CVMFS_SERVER_URL": f"http://{ORIGIN}/@fqrn@",
        "CVMFS_QUOTA_LIMIT": "500",
    }
    container = {
        "name": "cvmfs",
        "image": image,
        "securityContext": {"privileged": True},
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "readinessProbe": {
            "exec": {"command": ["/usr/bin/check_cvmfs.sh", "readiness"]}, "periodSeconds": 2, "timeoutSeconds": 10,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["/usr/bin/terminate.sh"]}}},
        "volumeMounts": [
            {"name": "mounts", "mountPath": "/cvmfs", "mountPropagation": "Bidirectional"},
            {"name": "cache", "mountPath": "/var/lib/cvmfs"},
            {"name": "fuse", "mountPath": "/dev/fuse"},
        ],
    }  # fmt: skip
    volumes = [
        {"name": "mounts", "hostPath": {"path": directory, "type": "DirectoryOrCreate"}},
        {"name": "cache", "emptyDir": {}},
        {"name": "fuse", "hostPath": {"path": "/dev/fuse", "type": "CharDevice"}},
    ]
    return pod(name, {"containers": [container], "volumes": volumes})


def pod(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"automountServiceAccountToken": False, **spec},
    }


def squid(image: str) -> list[dict[str, Any]]:
    text = configuration(
        SquidsArgs(
            site=NAMESPACE, namespace=NAMESPACE, priority="none", image=image, replicas=1, destinations=[ORIGIN],
            clients=["10.213.0.0/24"], cache_mib=256, memory_mib=128,
        )
    )  # fmt: skip
    start = f"squid -N -z -f {CONFIGURATION}; rm -f {STATE}/squid.pid; exec squid -N -f {CONFIGURATION}"
    container = {
        "name": "squid",
        "image": image,
        "command": ["/usr/bin/tini", "--", "/bin/bash", "-ec", start],
        "readinessProbe": {"tcpSocket": {"port": 3128}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "conf", "mountPath": str(Path(CONFIGURATION).parent)},
            {"name": "cache", "mountPath": CACHE},
            {"name": "state", "mountPath": STATE},
        ],
    }
    volumes = [
        {"name": "conf", "configMap": {"name": "squid"}},
        {"name": "cache", "emptyDir": {}},
        {"name": "state", "emptyDir": {}},
    ]
    metadata = {"name": "squid", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"squid.conf": text}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "squid"}, "ports": [{"port": 3128}]},
        },
        pod("squid", {"securityContext": {"fsGroup": 13}, "containers": [container], "volumes": volumes}),
    ]


def consumer(image: str) -> dict[str, Any]:
    container = {
        "name": "consumer",
        "image": image,
        "command": ["sleep", "3600"],
        "volumeMounts": [{"name": "cvmfs", "mountPath": "/cvmfs", "mountPropagation": "HostToContainer"}],
    }
    volume = {"name": "cvmfs", "hostPath": {"path": DIRECTORY, "type": "DirectoryOrCreate"}}
    spec = {"securityContext": {"runAsUser": 1000}, "containers": [container], "volumes": [volume]}
    return pod("consumer", {**spec, "terminationGracePeriodSeconds": 1})


def apply(node: Cluster, *manifests: dict[str, Any]) -> None:
    node.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))


@pytest.fixture(scope="module")
def pictures(node: Cluster) -> dict[str, str]:
    built = images.build(Progress(total=1), ("repository", "cvmfs", "squid", "startd"))
    machine.import_images([images.archive(name) for name in built])
    return built


@pytest.fixture(scope="module")
def mounts(node: Cluster, pictures: dict[str, str]) -> Iterator[None]:
    node.kubectl("create", "namespace", NAMESPACE)
    node.kubectl("-n", NAMESPACE, "wait", "--for=create", "serviceaccount/default", BOUND)
    repository.deploy(node.kubeconfig, pictures, Progress(total=1), namespace=NAMESPACE)
    apply(node, *squid(pictures["squid"]), mounter("cvmfs", pictures["cvmfs"], repository.REPOSITORY, DIRECTORY))
    apply(node, consumer(pictures["startd"]))
    node.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/squid", "pod/cvmfs", "pod/consumer", BOUND)
    yield
    node.kubectl("delete", "namespace", NAMESPACE, "--wait=true", BOUND)


def read(node: Cluster) -> str:
    return node.kubectl("-n", NAMESPACE, "exec", "consumer", "--", "head", "-1", README, check=False)


def process_of(node: Cluster, container: str, words: str) -> int | None:
    """The process with these words in a pod's container, seen from this machine; none if there is none now."""
    uid = node.kubectl("-n", NAMESPACE, "get", "pod", container, "-o", "jsonpath={.metadata.uid}")
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            groups = (place / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if re.match(words, command) and (uid in groups or uid.replace("-", "_") in groups):
            return int(place.name)
    return None


def test_a_consumer_imports_the_software_through_propagation(node: Cluster, mounts: None) -> None:
    software = f"/cvmfs/{repository.REPOSITORY}/python"
    said = node.kubectl(
        "-n", NAMESPACE, "exec", "consumer", "--", "env", f"PYTHONPATH={software}",
        "python3", "-c", "import pythia8mc, fastjet._swig as fastjet; print(pythia8mc.__file__, fastjet.__file__)",
    )  # fmt: skip
    assert said.count(software) == 2


def test_the_server_hears_from_the_squid_alone(node: Cluster, mounts: None) -> None:
    assert "demonstration" in read(node)
    address = node.kubectl("-n", NAMESPACE, "get", "pod", "squid", "-o", "jsonpath={.status.podIP}")
    log = node.kubectl("-n", NAMESPACE, "logs", "deployment/origin")
    assert {line.split()[0] for line in log.splitlines() if '"GET ' in line or '"HEAD ' in line} == {address}


@pytest.mark.parametrize("words", ["rclone mount", r"python3 -m local\.mounter $"])
def test_a_consumer_reads_again_after_the_mounter_was_killed(node: Cluster, mounts: None, words: str) -> None:
    killed = process_of(node, "cvmfs", words)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    node.eventually(lambda: process_of(node, "cvmfs", words) not in {killed, None}, f"{words} is back", NAMESPACE)
    node.eventually(lambda: "demonstration" in read(node), "the consumer reads again", NAMESPACE)
    stacked = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{DIRECTORY}/" in line]
    assert len(stacked) == 1, "a dead mount was left below the new one"


def test_a_repository_that_is_missing_is_not_ready_and_says_so(
    node: Cluster, mounts: None, pictures: dict[str, str]
) -> None:
    apply(node, mounter("astray", pictures["cvmfs"], "missing.example", f"{DIRECTORY}-astray"))
    try:

        def told() -> str:
            said = node.kubectl("-n", NAMESPACE, "exec", "astray", "--", "check_cvmfs.sh", "readiness", check=False)
            return said if "404" in said else ""

        said = node.eventually(told, "the mounter says that the repository is missing", NAMESPACE)
        assert "repository missing.example: " in said
        ready = node.kubectl(
            "-n", NAMESPACE, "get", "pod", "astray", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        )
        assert ready == "False"
    finally:
        node.kubectl("-n", NAMESPACE, "delete", "pod", "astray", "--wait=true", BOUND)
