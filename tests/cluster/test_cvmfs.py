"""The dev site's CVMFS image on the real node, as the component declares it: read through propagation and squid alone,
back after it was killed, hung or was updated, within its quota.
"""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from components import naming
from components.cvmfs import CACHE as SOFTWARE, CLAIM, MOUNTS, Cvmfs, CvmfsArgs
from components.squid import CACHE, CONFIGURATION, STATE, SquidsArgs, configuration
from local import images, node as machine, repository
from local.progress import Progress
from tests.cluster.cluster import BOUND, Cluster
from tests.program.monitor import deploy

pytestmark = pytest.mark.cluster

NAMESPACE = "cvmfs-test"
ORIGIN = f"origin.{NAMESPACE}.svc.cluster.local"
SQUID = f"http://squid.{NAMESPACE}.svc.cluster.local:3128"
README = f"/cvmfs/{repository.REPOSITORY}/README"
QUOTA_MIB = 8
MIB = 2**20
BLOCKS = 2 * 4096  # of the disk, for each file: the end of its content, and what is known of it
# A reader that has a file open all the while, so that what becomes stale is in use, and says what each read gives.
READER = f"until exec 3<{README}; do sleep 0.2; done 2>&-; while sleep 0.2; do head -1 {README} 2>&1; done"
# What a read may say while the mount is away: what is below it, a connection that has ended, a read cut short.
AWAY = re.compile(
    r"No such file or directory|Transport endpoint is not connected|Software caused connection abort|Input/output error"
)


def declared(pictures: dict[str, str], site: str, wanted: str, quota_mib: int = 500) -> list[dict[str, Any]]:
    """What the component declares, with directories of the node for this test alone."""
    arguments = CvmfsArgs(
        site=site,
        namespace=site,
        consumers=site,
        image=pictures["cvmfs"],
        mode="daemonset",
        repositories=[wanted],
        proxies=f"http://nobody.{NAMESPACE}.svc.cluster.local:3128|{SQUID}",
        server_url=f"http://{ORIGIN}/@fqrn@",
        quota_mib=quota_mib,
    )
    text = json.dumps(deploy(lambda: Cvmfs(site, arguments)).manifests())
    for path in (MOUNTS, SOFTWARE):
        text = text.replace(f'"{path}"', f'"{path}/{site}"')
    return list(json.loads(text))


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


def consumer(name: str, image: str) -> dict[str, Any]:
    container = {
        "name": "consumer",
        "image": image,
        "command": ["bash", "-c", READER],
        "volumeMounts": [{"name": "cvmfs", "mountPath": "/cvmfs", "mountPropagation": "HostToContainer"}],
    }
    volume = {"name": "cvmfs", "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}}
    spec = {"securityContext": {"runAsUser": 1000}, "containers": [container], "volumes": [volume]}
    return pod(name, {**spec, "terminationGracePeriodSeconds": 1})


def apply(node: Cluster, *manifests: dict[str, Any]) -> None:
    node.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))


@contextmanager
def mounted(node: Cluster, pictures: dict[str, str], site: str, wanted: str, quota_mib: int = 500) -> Iterator[None]:
    """A namespace whose DaemonSet mounts a repository, and nothing of it afterwards."""
    node.kubectl("create", "namespace", site)
    try:
        node.kubectl("-n", site, "wait", "--for=create", "serviceaccount/default", BOUND)
        apply(node, *declared(pictures, site, wanted, quota_mib))
        yield
    finally:
        node.kubectl("delete", "namespace", site, BOUND)
        node.kubectl("delete", "persistentvolume", naming.cvmfs_volume(site), BOUND)
        shutil.rmtree(f"{SOFTWARE}/{site}", ignore_errors=True)


@pytest.fixture(scope="module")
def pictures(node: Cluster) -> dict[str, str]:
    built = images.build(Progress(total=1), ("repository", "cvmfs", "squid", "startd"))
    machine.import_images([images.archive(name) for name in built])
    return built


@pytest.fixture(scope="module")
def mounts(node: Cluster, pictures: dict[str, str]) -> Iterator[None]:
    with mounted(node, pictures, NAMESPACE, repository.REPOSITORY):
        repository.deploy(node.kubeconfig, pictures, Progress(total=1), namespace=NAMESPACE)
        apply(node, *squid(pictures["squid"]), consumer("consumer", pictures["startd"]))
        node.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "pod/squid", "pod/consumer", BOUND)
        ready(node, NAMESPACE)
        reads_on(node, "consumer")
        yield


def mounters(node: Cluster, site: str) -> list[dict[str, Any]]:
    """The pods that mount, but for those that are going."""
    found = json.loads(node.kubectl("-n", site, "get", "pods", "-l", "app.kubernetes.io/name=cvmfs", "-o", "json"))
    return [item for item in found["items"] if "deletionTimestamp" not in item["metadata"]]


def ready(node: Cluster, site: str, *, but: str = "") -> dict[str, Any]:
    """The pod that mounts, once it is Ready, and of another name than it was."""

    def look() -> dict[str, Any] | None:
        for item in mounters(node, site):
            states = item["status"].get("containerStatuses", ())
            if item["metadata"]["name"] != but and states and all(state["ready"] for state in states):
                return dict(item)
        return None

    item = node.eventually(look, "the mounter is ready", site)
    assert item is not None
    return item


def restarts(item: dict[str, Any]) -> int:
    return sum(state["restartCount"] for state in item["status"]["containerStatuses"])


def reads(node: Cluster, name: str) -> list[str]:
    """What each read of a consumer gave."""
    return node.kubectl("-n", NAMESPACE, "logs", name).splitlines()


def reads_on(node: Cluster, name: str) -> None:
    """Waits until a consumer reads again, which has seen nothing but the software and that it is away."""
    before = len(reads(node, name))
    node.eventually(lambda: "demonstration" in "".join(reads(node, name)[before:]), f"{name} reads", NAMESPACE)
    strange = [line for line in reads(node, name) if "demonstration" not in line and not AWAY.search(line)]
    assert not strange


def nothing_stale(node: Cluster, *names: str) -> None:
    """The node and each consumer see one mount: a dead one below it would be there for good."""
    places = [("self", f"{MOUNTS}/{NAMESPACE}/")]
    places += [(str(process_of(node, name, "bash -c")), "/cvmfs/") for name in names]
    for process, place in places:
        found = Path(f"/proc/{process}/mountinfo").read_text().splitlines()
        assert len([line for line in found if f" {place}{repository.REPOSITORY} " in line]) == 1, (process, found)


def process_of(node: Cluster, name: str, words: str) -> int | None:
    """The process with these words in a pod, seen from this machine; none if there is none now."""
    uid = node.kubectl("-n", NAMESPACE, "get", "pod", name, "-o", "jsonpath={.metadata.uid}")
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            groups = (place / "cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if re.match(words, command) and (uid in groups or uid.replace("-", "_") in groups):
            return int(place.name)
    return None


def strike(node: Cluster, words: str, number: signal.Signals) -> int:
    """Sends a signal to a process of the mounter; its number."""
    struck = process_of(node, ready(node, NAMESPACE)["metadata"]["name"], words)
    assert struck is not None
    os.kill(struck, number)
    return struck


def replaced(node: Cluster, words: str, struck: int) -> None:
    """Waits until another process is in the place of the one that was struck."""
    name = mounters(node, NAMESPACE)[0]["metadata"]["name"]
    node.eventually(lambda: process_of(node, name, words) not in {struck, None}, f"{words} is back", NAMESPACE)


def test_a_consumer_imports_the_software_through_propagation(node: Cluster, mounts: None) -> None:
    software = f"/cvmfs/{repository.REPOSITORY}/python"
    said = node.kubectl(
        "-n", NAMESPACE, "exec", "consumer", "--", "env", f"PYTHONPATH={software}",
        "python3", "-c", "import pythia8mc, fastjet._swig as fastjet; print(pythia8mc.__file__, fastjet.__file__)",
    )  # fmt: skip
    assert said.count(software) == 2


def test_the_server_hears_from_the_squid_alone(node: Cluster, mounts: None) -> None:
    address = node.kubectl("-n", NAMESPACE, "get", "pod", "squid", "-o", "jsonpath={.status.podIP}")
    log = node.kubectl("-n", NAMESPACE, "logs", "deployment/origin")
    assert {line.split()[0] for line in log.splitlines() if '"GET ' in line or '"HEAD ' in line} == {address}


@pytest.mark.parametrize("words", ["rclone mount", r"python3 -m local\.mounter $"])
def test_a_consumer_reads_again_after_the_mounter_was_killed(node: Cluster, mounts: None, words: str) -> None:
    replaced(node, words, strike(node, words, signal.SIGKILL))
    reads_on(node, "consumer")
    nothing_stale(node, "consumer")


def test_a_mount_that_hangs_is_ended_by_its_probe_and_its_readers_go_on(node: Cluster, mounts: None) -> None:
    item = ready(node, NAMESPACE)
    hung = strike(node, "rclone mount", signal.SIGSTOP)
    waits = ("exec", "consumer", "--", "timeout", "3", "head", "-1", README)
    assert "exit code 124" in node.kubectl("-n", NAMESPACE, *waits, check=False), "a read waits while the mount hangs"
    replaced(node, "rclone mount", hung)
    reads_on(node, "consumer")
    nothing_stale(node, "consumer")
    after = ready(node, NAMESPACE)
    assert after["metadata"]["uid"] == item["metadata"]["uid"]
    assert restarts(after) == restarts(item) + 1
    events = node.kubectl("-n", NAMESPACE, "get", "events", "-o", "jsonpath={.items[*].message}")
    assert "failed liveness probe" in events


def test_an_update_waits_until_the_pod_is_deleted_and_readers_old_and_new_go_on(
    node: Cluster, mounts: None, pictures: dict[str, str]
) -> None:
    old = ready(node, NAMESPACE)["metadata"]["name"]
    apply(node, *declared(pictures, NAMESPACE, repository.REPOSITORY, quota_mib=400))
    seen = "jsonpath={.metadata.generation} {.status.observedGeneration} {.status.updatedNumberScheduled}"

    def outdated() -> bool:
        wanted, observed, *updated = node.kubectl("-n", NAMESPACE, "get", "daemonset", "cvmfs", "-o", seen).split()
        return observed == wanted and updated in ([], ["0"])

    node.eventually(outdated, "the DaemonSet has seen its new template", NAMESPACE)
    reads_on(node, "consumer")
    assert [item["metadata"]["name"] for item in mounters(node, NAMESPACE)] == [old]
    node.kubectl("-n", NAMESPACE, "delete", "pod", old, "--wait=false")
    apply(node, consumer("late", pictures["startd"]))
    new = ready(node, NAMESPACE, but=old)
    told = {entry["name"]: entry["value"] for entry in new["spec"]["containers"][0]["env"]}
    assert told["CVMFS_QUOTA_LIMIT"] == "400"
    for name in ("consumer", "late"):
        node.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"pod/{name}", BOUND)
        reads_on(node, name)
    nothing_stale(node, "consumer", "late")


def test_the_cache_on_the_nodes_disk_keeps_to_its_quota(node: Cluster, mounts: None, pictures: dict[str, str]) -> None:
    site = "cvmfs-small"
    with mounted(node, pictures, site, repository.REPOSITORY, quota_mib=QUOTA_MIB):
        ready(node, site)
        files = [file for file in Path(f"{MOUNTS}/{site}/{repository.REPOSITORY}").rglob("*") if file.is_file()]
        assert sum(len(file.read_bytes()) for file in files) > 2 * QUOTA_MIB * MIB

        def within() -> bool:
            cached = [file.stat().st_blocks * 512 for file in Path(f"{SOFTWARE}/{site}").rglob("*") if file.is_file()]
            return sum(cached) <= QUOTA_MIB * MIB + BLOCKS * len(files)

        node.eventually(within, "the cache keeps to its quota", site)
        assert all(file.read_bytes() for file in files[:10] if file.stat().st_size)


def test_a_repository_that_is_missing_is_not_ready_and_says_so(
    node: Cluster, mounts: None, pictures: dict[str, str]
) -> None:
    site = "cvmfs-astray"
    with mounted(node, pictures, site, "missing.example"):

        def told() -> str:
            words = ("exec", "daemonset/cvmfs", "--", "check_cvmfs.sh", "readiness")
            said = node.kubectl("-n", site, *words, check=False)
            return said if "404" in said else ""

        said = node.eventually(told, "the mounter says that the repository is missing", site)
        assert "repository missing.example: " in said
        (item,) = mounters(node, site)
        assert not any(state["ready"] for state in item["status"]["containerStatuses"])
