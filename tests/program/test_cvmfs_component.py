"""The software repositories: mounted on each node by the one privileged pod, and reached by a claim."""

from typing import Any

import pytest

from components.cvmfs import CACHE, MOUNTS, Cvmfs, CvmfsArgs, environment
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

DAEMON_SET = "kubernetes:apps/v1:DaemonSet"
VOLUME = "kubernetes:core/v1:PersistentVolume"
CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
IMAGE = f"registry.example.org/cern/cvmfs@sha256:{'0' * 64}"
PROXIES = "http://squid-0:3128|http://squid-1:3128;http://squid:3128"


def arguments(**changes: Any) -> CvmfsArgs:
    given = {
        "site": "here",
        "namespace": "here-system",
        "consumers": "here",
        "image": IMAGE,
        "mode": "daemonset",
        "repositories": ["atlas.cern.ch", "sft.cern.ch"],
        "proxies": PROXIES,
        "quota_mib": 20_000,
    }
    return CvmfsArgs(**{**given, **changes})


def declared(**changes: Any) -> Monitor:
    return deploy(lambda: Cvmfs("here-cvmfs", arguments(**changes)))


def spec(monitor: Monitor) -> dict[str, Any]:
    pod: dict[str, Any] = monitor.one(DAEMON_SET).inputs["spec"]["template"]["spec"]
    return pod


def test_every_part_hangs_on_the_component_and_keeps_to_the_policies() -> None:
    monitor = declared()
    tree.check(monitor)
    assert monitor.one("atlas-sites:index:Cvmfs").outputs == {
        "hostPath": MOUNTS,
        "claim": "cvmfs",
        "repositories": ["atlas.cern.ch", "sft.cern.ch"],
    }


def test_what_is_privileged_runs_in_the_system_namespace_alone() -> None:
    monitor = declared()
    assert monitor.one(DAEMON_SET).inputs["metadata"]["namespace"] == "here-system"
    assert spec(monitor)["containers"][0]["securityContext"] == {"privileged": True}
    assert spec(monitor)["automountServiceAccountToken"] is False


def test_mounts_go_out_to_the_node_and_only_there() -> None:
    (container,) = spec(declared())["containers"]
    outward = [mount["mountPath"] for mount in container["volumeMounts"] if "mountPropagation" in mount]
    assert outward == ["/cvmfs"]
    (mounts,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/cvmfs"]
    assert mounts["mountPropagation"] == "Bidirectional"
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec(declared())["volumes"]}
    assert paths == {"mounts": MOUNTS, "cache": CACHE, "fuse": "/dev/fuse"}


def test_an_update_breaks_no_job_and_is_not_waited_for() -> None:
    inputs = declared().one(DAEMON_SET).inputs
    assert inputs["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert inputs["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}


def test_a_mount_that_hangs_is_ended_within_a_minute_and_a_dead_one_goes_before_the_next() -> None:
    (container,) = spec(declared())["containers"]
    probe = container["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"] < 60
    assert probe["terminationGracePeriodSeconds"] < spec(declared())["terminationGracePeriodSeconds"]
    unmounts, mounts = container["command"][-1].index("umount -l"), container["command"][-1].index("mount_cvmfs.sh")
    assert unmounts < mounts


def test_no_taint_keeps_it_from_a_node() -> None:
    assert spec(declared())["tolerations"] == [{"operator": "Exists"}]
    assert spec(declared())["priorityClassName"] == "system-node-critical"


def test_the_client_is_told_repositories_proxies_and_quota() -> None:
    (container,) = spec(declared())["containers"]
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    assert told == environment(arguments())
    assert told == {
        "CVMFS_REPOSITORIES": "atlas.cern.ch,sft.cern.ch",
        "CVMFS_HTTP_PROXY": PROXIES,
        "CVMFS_PROXY_SHARD": "yes",
        "CVMFS_QUOTA_LIMIT": "20000",
    }


def test_a_server_is_named_when_the_image_s_own_are_not_meant() -> None:
    assert environment(arguments(server_url="http://x/@fqrn@"))["CVMFS_SERVER_URL"] == "http://x/@fqrn@"


def test_the_claim_and_the_volume_mean_each_other() -> None:
    monitor = declared()
    volume, claim = monitor.one(VOLUME).inputs, monitor.one(CLAIM).inputs
    assert volume["spec"]["claimRef"]["name"] == claim["metadata"]["name"] == "cvmfs"
    assert volume["spec"]["claimRef"]["namespace"] == claim["metadata"]["namespace"] == "here"
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"] == "here-cvmfs"
    # An empty class, or else the cluster's default one makes a disk for the claim.
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""


def test_software_is_there_for_many_to_read() -> None:
    monitor = declared()
    assert monitor.one(VOLUME).inputs["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert monitor.one(CLAIM).inputs["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert monitor.one(VOLUME).inputs["spec"]["persistentVolumeReclaimPolicy"] == "Retain"


def test_mode_host_deploys_no_pod_and_claims_what_the_node_mounts() -> None:
    monitor = declared(mode="host")
    tree.check(monitor)
    kinds = {resource.type for resource in monitor.children(monitor.one("atlas-sites:index:Cvmfs"))}
    assert kinds == {VOLUME, CLAIM}
    assert monitor.one(VOLUME).inputs["spec"]["hostPath"]["path"] == "/cvmfs"


def test_mode_csi_deploys_nothing_and_takes_the_claim_that_is_there() -> None:
    monitor = declared(mode="csi", claim="software")
    component = monitor.one("atlas-sites:index:Cvmfs")
    assert monitor.children(component) == []
    assert component.outputs is not None
    assert component.outputs["claim"] == "software"


def test_two_sites_in_one_stack_do_not_collide() -> None:
    def both() -> None:
        Cvmfs("here-cvmfs", arguments())
        Cvmfs("there-cvmfs", arguments(site="there", namespace="there-system", consumers="there"))

    monitor = deploy(both)
    tree.check(monitor)
    assert {each.inputs["metadata"]["name"] for each in monitor.all(VOLUME)} == {"here-cvmfs", "there-cvmfs"}
