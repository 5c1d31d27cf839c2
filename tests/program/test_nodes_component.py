"""The part that looks after nodes: it may do what it does and no more, and a monitor touches its own node alone."""

from typing import Any

import pytest

from components.nodes import Nodes, NodesArgs
from services.nodehealth.monitor import task_of
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

DAEMON_SET, DEPLOYMENT = "kubernetes:apps/v1:DaemonSet", "kubernetes:apps/v1:Deployment"
CLUSTER_ROLE = "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole"
POLICY = "kubernetes:admissionregistration.k8s.io/v1:ValidatingAdmissionPolicy"


def declared(**changes: Any) -> Monitor:
    given_all = {
        "site": "here",
        "namespace": "here",
        "system": "here-system",
        "priority": "here-service",
        "image": f"registry.example.org/atlas/services@sha256:{'0' * 64}",
        "mode": "cordon",
        "quiet_seconds": 1800,
        "cvmfs_path": "/var/cvmfs",
        "repositories": ["atlas.cern.ch", "sft.cern.ch"],
    }
    return deploy(lambda: Nodes("here-nodehealth", NodesArgs(**{**given_all, **changes})))


def cluster_rules(monitor: Monitor) -> dict[str, list[dict[str, Any]]]:
    return {each.inputs["metadata"]["name"]: each.inputs["rules"] for each in monitor.all(CLUSTER_ROLE)}


def test_every_part_hangs_on_the_component_and_keeps_to_the_policies() -> None:
    monitor = declared()
    tree.check(monitor)
    component = monitor.one("atlas-sites:index:Nodes")
    assert len(monitor.children(component)) == len(monitor.resources) - 2


@pytest.mark.parametrize(("mode", "verbs"), [("cordon", ["list", "watch", "patch"]), ("report", ["list", "watch"])])
def test_the_controller_may_change_nodes_only_where_it_is_to_cordon_them(mode: str, verbs: list[str]) -> None:
    assert cluster_rules(declared(mode=mode))["here-nodehealth"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": verbs}
    ]


def test_nobody_may_delete_a_node_or_touch_a_pod() -> None:
    monitor = declared()
    roles = [*monitor.all(CLUSTER_ROLE), *monitor.all("kubernetes:rbac.authorization.k8s.io/v1:Role")]
    rules = [rule for role in roles for rule in role.inputs["rules"]]
    assert not any("delete" in rule["verbs"] or "pods" in rule["resources"] for rule in rules)


def test_a_monitor_may_write_the_status_of_its_own_node_alone() -> None:
    monitor = declared()
    assert cluster_rules(monitor)["here-node-monitor"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]
    spec = monitor.one(POLICY).inputs["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert spec["matchConditions"][0]["expression"] == (
        "request.userInfo.username == 'system:serviceaccount:here-system:node-monitor'"
    )
    assert monitor.one(f"{POLICY}Binding").inputs["spec"]["validationActions"] == ["Deny"]


def test_the_monitor_is_told_its_node_and_repositories_and_sees_them_as_they_come() -> None:
    pod = declared().one(DAEMON_SET).inputs["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = {each["name"]: each.get("value", "node-1") for each in container["env"]}
    task = task_of(told)
    assert (task.node, task.quiet) == ("node-1", 1800)
    assert [str(place) for place in task.repositories] == ["/cvmfs/atlas.cern.ch", "/cvmfs/sft.cern.ch"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["cvmfs"]["mountPropagation"] == "HostToContainer"
    assert all(mount["readOnly"] for mount in mounts.values())


def test_where_repositories_are_nowhere_on_the_node_the_monitor_does_not_look_for_them() -> None:
    pod = declared(cvmfs_path=None, repositories=()).one(DAEMON_SET).inputs["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert [volume["name"] for volume in pod["volumes"]] == ["kmsg"]
    assert [mount["name"] for mount in container["volumeMounts"]] == ["kmsg"]
    told = {each["name"]: each.get("value", "node-1") for each in container["env"]}
    assert not task_of(told).repositories


def test_the_controller_is_told_its_mode_and_how_long_a_problem_must_be_over() -> None:
    (container,) = declared(mode="report").one(DEPLOYMENT).inputs["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert (told["MODE"], told["QUIET_SECONDS"]) == ("report", "1800")


def test_two_sites_on_one_cluster_share_no_object_that_belongs_to_no_namespace() -> None:
    kinds = (CLUSTER_ROLE, POLICY)
    sites = [
        {(kind, each.inputs["metadata"]["name"]) for kind in kinds for each in declared(site=site).all(kind)}
        for site in ("here", "there")
    ]
    assert not sites[0] & sites[1]
