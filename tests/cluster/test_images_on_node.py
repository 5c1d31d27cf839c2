"""Each image on the real node: it starts as the user that the image names, and holds what a site counts on."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.squid import CACHE, CONFIGURATION, STATE, SquidsArgs, configuration
from local import images, node as machine
from local.progress import Progress
from tests.cluster.cluster import BOUND, Cluster

pytestmark = pytest.mark.cluster

NAMESPACE = "images-test"


@dataclass(frozen=True)
class Expected:
    """What a shell in the image must print: the user it runs as, then a line for each of these patterns."""

    user: int
    script: str
    lines: tuple[str, ...]


EXPECTED = {
    "startd": Expected(
        1000,
        "id -un; condor_version | head -1; python3 --version; curl --version | head -1; command -v condor_startd",
        ("startd", r"\$CondorVersion: (2[3-9]|[3-9]\d)\.", r"Python 3\.1[3-9]", r"curl \d", "/usr/sbin/condor_startd"),
    ),
    "squid": Expected(13, "id -un; squid --version | head -1", ("proxy", r"Squid Cache: Version [6-9]\.")),
    "services": Expected(
        1000,
        "python3 -c 'import sys, aiohttp, cryptography.x509, prometheus_client, services; print(sys.version)'",
        (r"3\.13\.",),
    ),
    "timeseries": Expected(
        1000,
        "id -un; influxd version; influx -version; ls /usr/bin/victoria-metrics",
        ("timeseries", r"InfluxDB v1\.", r"InfluxDB shell version: 1\.", "/usr/bin/victoria-metrics"),
    ),
}


@pytest.fixture(scope="module")
def references(node: Cluster) -> dict[str, str]:
    built = images.build(Progress(total=1), tuple(EXPECTED))
    machine.import_images([images.archive(name) for name in built])
    return built


@pytest.fixture(scope="module")
def namespace(node: Cluster) -> Iterator[str]:
    node.kubectl("create", "namespace", NAMESPACE)
    node.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    yield NAMESPACE
    node.kubectl("delete", "namespace", NAMESPACE, "--wait=true", BOUND)


def pod(name: str, image: str, *, command: list[str] | None = None, **more: object) -> dict[str, object]:
    """A pod that may do nothing special; its user is the image's, which the kubelet refuses if it is root."""
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **({"command": command} if command else {}),
        **more,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
        },
    }


def run(node: Cluster, namespace: str, manifest: dict[str, object]) -> None:
    # Right after its namespace, a pod may be refused until the default service account is there.
    node.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", BOUND)
    node.kubectl("-n", namespace, "apply", "-f", "-", stdin=json.dumps(manifest))


@pytest.mark.parametrize("name", EXPECTED)
def test_an_image_runs_as_its_own_user_and_holds_what_a_site_counts_on(
    node: Cluster, namespace: str, references: dict[str, str], name: str
) -> None:
    expected = EXPECTED[name]
    run(node, namespace, pod(name, references[name], command=["/bin/sh", "-c", f"id -u; {expected.script}"]))
    node.kubectl("-n", namespace, "wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", BOUND)
    user, *lines = node.kubectl("-n", namespace, "logs", name).splitlines()
    assert user == str(expected.user)
    assert len(lines) == len(expected.lines)
    for line, pattern in zip(lines, expected.lines, strict=True):
        assert re.match(pattern, line), line


def test_squid_serves_with_a_root_file_system_it_cannot_write_to(
    node: Cluster, namespace: str, references: dict[str, str]
) -> None:
    text = configuration(
        SquidsArgs(
            site="images-test",
            namespace=namespace,
            priority="none",
            image=references["squid"],
            replicas=1,
            destinations=["origin.invalid"],
            clients=["127.0.0.0/8"],
            cache_mib=64,
            memory_mib=128,
        )
    )
    run(
        node,
        namespace,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "squid"}, "data": {"squid.conf": text}},
    )
    manifest = pod(
        "serving",
        references["squid"],
        command=["/usr/bin/tini", "--", "/bin/bash", "-ec"],
        args=[f"squid -N -z -f {CONFIGURATION}; rm -f {STATE}/squid.pid; exec squid -N -f {CONFIGURATION}"],
        ports=[{"containerPort": 3128}],
        readinessProbe={"tcpSocket": {"port": 3128}, "periodSeconds": 1},
        volumeMounts=[
            {"name": "conf", "mountPath": str(Path(CONFIGURATION).parent), "readOnly": True},
            {"name": "cache", "mountPath": CACHE},
            {"name": "state", "mountPath": STATE},
        ],
    )
    spec = manifest["spec"]
    assert isinstance(spec, dict)
    spec["securityContext"]["fsGroup"] = EXPECTED["squid"].user
    spec["volumes"] = [
        {"name": "conf", "configMap": {"name": "squid"}},
        {"name": "cache", "emptyDir": {"sizeLimit": "128Mi"}},
        {"name": "state", "emptyDir": {"sizeLimit": "16Mi"}},
    ]
    run(node, namespace, manifest)
    node.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/serving", BOUND)
    ask = (
        "exec 3<>/dev/tcp/127.0.0.1/3128; printf 'GET http://elsewhere.invalid/ HTTP/1.0\\r\\n\\r\\n' >&3; head -1 <&3"
    )
    assert " 403 " in node.kubectl("-n", namespace, "exec", "serving", "--", "bash", "-c", ask)

    def told() -> bool:
        return "TCP_DENIED/403" in node.kubectl("-n", namespace, "logs", "serving")

    node.eventually(told, "the access log reaches standard output", namespace)
    node.kubectl("-n", namespace, "delete", "pod", "serving", "--wait=true", BOUND)


def test_a_second_build_builds_nothing(references: dict[str, str]) -> None:
    before = {name: images.archive(name).stat().st_mtime_ns for name in references}
    said = io.StringIO()
    assert images.build(Progress(total=1, stream=said), tuple(references)) == references
    assert said.getvalue() == ""
    assert {name: images.archive(name).stat().st_mtime_ns for name in references} == before
    assert machine.import_images([images.archive(name) for name in references]) == []
