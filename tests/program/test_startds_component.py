"""Where startds go, to job pools that the stack made and not to one that is retiring; and what they may do there."""

from dataclasses import replace
from typing import Any

import pytest
from stageout.place import OFFERED

from components.cluster.pools import JOBS, LABEL, NodePool, Taint
from components.startds import StartdLimits, StartdsArgs, StartdSize, StartdTimes, VacuumPace, specification, template

pytestmark = pytest.mark.fast


def pool(name: str, *taints: Taint, retiring: bool = False) -> NodePool:
    """A pool that the stack made."""
    return NodePool(
        name=name, selector={LABEL: name}, most=10, cores=15.0, memory_mib=60000, disk_mib=400000, pods=110,
        taints=(JOBS, *taints), retiring=retiring,
    )  # fmt: skip


LIMITS = StartdLimits(pods=10, cores=10, memory_mib=20480)


def arguments(*pools: NodePool, seccomp: str | None = None, limits: StartdLimits = LIMITS) -> StartdsArgs:
    return StartdsArgs(
        site="here", namespace="here", image="startd", atlas_site="HERE", collector="pool.example.org:9618",
        trust_domain="pool.example.org", credentials="proxy", cvmfs_claim="cvmfs", repositories=(), proxy="http://squid",
        pools=pools, seccomp_profile=seccomp,
        size=StartdSize(cores=1, requested_cores=1, memory_mib=2048, disk_mib=20480),
        times=StartdTimes(start=300, no_claim=600, drain=3600, lifetime=172800, keepalive=180),
        limits=limits,
        pace=VacuumPace(window_initial=4, window_maximum=None, backoff_base=600, backoff_cap=3600, update="OnFinish"),
    )  # fmt: skip


def spec(*pools: NodePool, seccomp: str | None = None) -> dict[str, Any]:
    """The pod of a startd beside these pools."""
    found: dict[str, Any] = template(arguments(*pools, seccomp=seccomp))["spec"]
    return found


def required(*pools: NodePool) -> list[dict[str, Any]]:
    affinity = spec(*pools)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [term] = affinity["nodeSelectorTerms"]
    expressions: list[dict[str, Any]] = term["matchExpressions"]
    return expressions


def test_what_a_set_gets_beside_others_is_as_the_stack_says() -> None:
    assert specification(arguments())["share"] == {"weight": 1, "floor": 0}
    told = specification(arguments(limits=replace(LIMITS, weight=3, floor=2)))
    assert told["share"] == {"weight": 3, "floor": 2}


def test_without_pools_any_node_will_do() -> None:
    assert "affinity" not in spec()
    assert "tolerations" not in spec()


def test_startds_go_to_job_pools_and_tolerate_what_keeps_others_off_them() -> None:
    spot = Taint(key="kubernetes.azure.com/scalesetpriority", value="spot", effect="NoSchedule")
    pools = pool("jobs1"), pool("cheap1", spot)
    assert required(*pools) == [{"key": LABEL, "operator": "Exists"}]
    assert [(each["key"], each["value"]) for each in spec(*pools)["tolerations"]] == [
        (JOBS.key, JOBS.value),
        (spot.key, spot.value),
    ]


def test_a_new_pool_changes_nothing_for_the_startds_that_run() -> None:
    assert spec(pool("jobs1")) == spec(pool("jobs1"), pool("more1"))


def test_no_startd_goes_to_a_pool_that_is_retiring() -> None:
    assert required(pool("jobs1", retiring=True), pool("jobs2")) == [
        {"key": LABEL, "operator": "Exists"},
        {"key": LABEL, "operator": "NotIn", "values": ["jobs1"]},
    ]


def test_pools_of_an_existing_cluster_are_tolerated_and_not_required() -> None:
    taint = Taint(key="batch", value="", effect="NoSchedule")
    theirs = NodePool(
        name="batch", selector={"pool": "batch"}, most=10, cores=15.0, memory_mib=60000, disk_mib=400000, pods=110,
        taints=(taint,),
    )  # fmt: skip
    assert "affinity" not in spec(theirs)
    assert spec(theirs)["tolerations"] == [
        {"key": "batch", "operator": "Equal", "value": "", "effect": "NoSchedule"},
    ]


def told(pod: dict[str, Any], variable: str) -> str:
    """What the container of the startd is told."""
    return next(str(each["value"]) for each in pod["containers"][0]["env"] if each["name"] == variable)


def test_the_profile_for_payload_containers_is_that_of_the_startd_alone() -> None:
    pod = spec(seccomp="atlas-sites/x.json")
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "seccompProfile" not in pod["initContainers"][0]["securityContext"]
    context = pod["containers"][0]["securityContext"]
    assert context["seccompProfile"] == {"type": "Localhost", "localhostProfile": "atlas-sites/x.json"}
    assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})
    assert told(pod, "PAYLOAD_CONTAINERS") == "userNamespaces"


def test_where_files_go_out_a_startd_is_told_where_and_by_what_and_holds_no_token_of_the_cluster() -> None:
    sources = [{"configMap": {"name": "stage-out"}}]
    pod = template(replace(arguments(), stage_out=sources, account="startd"))["spec"]
    (volume,) = (each for each in pod["volumes"] if each["name"] == "stage-out")
    assert volume["projected"]["sources"] == sources
    (mount,) = (each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "stage-out")
    assert (mount["mountPath"], mount["readOnly"]) == (str(OFFERED), True)
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("startd", False)
    assert "serviceAccountName" not in spec()
    assert "stage-out" not in str(spec())


def test_without_payload_containers_a_startd_has_the_runtimes_own_profile() -> None:
    pod = spec()
    assert "seccompProfile" not in pod["containers"][0]["securityContext"]
    assert told(pod, "PAYLOAD_CONTAINERS") == "none"
