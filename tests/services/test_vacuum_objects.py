"""What is read from the API server's JSON, and that what is written can be read again."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from services.vacuum.model import (
    Blamed,
    Bound,
    Circuit,
    Class,
    Count,
    Create,
    Message,
    NodeMemory,
    Outcome,
    Size,
    State,
    Status,
    Usage,
)
from services.vacuum.objects import message_of, new_pod, pod_of, quantity, status_json, status_of, template_hash

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("500m", Decimal("0.5")), ("2Gi", 2**31), ("1.5k", 1500), ("1e3", 1000), (4, 4), ("0", 0)],
)
def test_a_quantity_is_a_number(text: str | int, number: Decimal) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", "x", "1Zi", "1 Gi"])
def test_nonsense_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '200 worked\n{"v":1,"code":200,"reason":"Worked","jobsStarted":3}',
            Message(code=200, reason="Worked", jobs_started=3),
        ),
        ("300 no work", Message(code=300, reason="no work")),
        ("500 site\nnot JSON", Message(code=500, reason="site")),
        ("700", Message(code=700, reason="700")),
        ("200 x\n[1]", Message(code=200, reason="x")),
        ("", None),
        ("Segmentation fault", None),
        ("2000 jobs", None),
        ("900 what", None),
    ],
)
def test_the_last_word_is_a_code_or_nothing(text: str, message: Message | None) -> None:
    assert message_of(text) == message


def raw_pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "startds-17",
            "uid": "u",
            "resourceVersion": "3",
            "creationTimestamp": "1970-01-01T00:01:00Z",
            "labels": {"vacuum.atlas-sites.io/template": "t"},
        },
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "startd", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}],
        },
        "status": status,
    }


def test_a_running_pod_is_read() -> None:
    since = {"status": "True", "lastTransitionTime": "1970-01-01T00:02:00Z"}
    pod = pod_of(
        raw_pod(
            phase="Running",
            conditions=[{"type": "PodScheduled", **since}, {"type": "Ready", **since}],
            containerStatuses=[{"name": "startd", "state": {"running": {"startedAt": "1970-01-01T00:01:30Z"}}}],
        )
    )
    assert (pod.sequence, pod.template, pod.node, pod.created) == (17, "t", "n", 60.0)
    assert pod.size == Size(millicores=500, memory_mib=1024)
    assert (pod.scheduled, pod.ready, pod.started, pod.finished) == (120.0, 120.0, 90.0, None)


def test_the_zero_time_of_a_container_that_never_ran_is_no_start() -> None:
    end = {"startedAt": "1970-01-01T00:00:00Z", "finishedAt": "1970-01-01T00:05:00Z", "exitCode": 128}
    pod = pod_of(raw_pod(phase="Failed", containerStatuses=[{"name": "startd", "state": {"terminated": end}}]))
    assert (pod.started, pod.finished, pod.exit_code) == (None, 300.0, 128)


def test_the_message_of_an_init_container_that_failed_is_the_pods() -> None:
    end = {"finishedAt": "1970-01-01T00:05:00Z", "exitCode": 5, "message": "500 no /cvmfs"}
    states = [
        {"name": "credentials", "state": {"terminated": {"exitCode": 0, "message": "200 x"}}},
        {"name": "wait-for-cvmfs", "state": {"terminated": end}},
    ]
    waits = [{"name": "startd", "state": {"waiting": {"reason": "PodInitializing"}}}]
    pod = pod_of(raw_pod(phase="Failed", initContainerStatuses=states, containerStatuses=waits))
    assert (pod.exit_code, pod.message) == (5, Message(code=500, reason="no /cvmfs"))


def test_a_pod_that_fits_nowhere_and_one_that_is_taken_away_are_told_apart() -> None:
    fits_not = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    taken = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    assert pod_of(raw_pod(phase="Pending", conditions=[fits_not])).unschedulable
    assert pod_of(raw_pod(phase="Failed", conditions=[taken])).disruption == "PreemptionByScheduler"


def test_a_new_pod_belongs_to_its_set_and_waits_to_be_counted() -> None:
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "startd"}], "restartPolicy": "Never"},
    }
    owner = {
        "apiVersion": "vacuum.atlas-sites.io/v1alpha1",
        "kind": "StartdSet",
        "metadata": {"name": "startds", "namespace": "site", "uid": "u"},
        "spec": {"template": template},
    }
    pod = new_pod(owner, Create(sequence=7))
    assert pod["metadata"]["name"] == "startds-7"
    assert pod["metadata"]["finalizers"] == ["vacuum.atlas-sites.io/outcome"]
    assert pod["metadata"]["labels"] == {
        "a": "b",
        "vacuum.atlas-sites.io/set": "startds",
        "vacuum.atlas-sites.io/template": template_hash(template),
    }
    assert pod["metadata"]["ownerReferences"][0]["uid"] == "u"
    assert pod["spec"] == template["spec"]
    assert "annotations" not in pod["metadata"] or pod["metadata"]["annotations"] == {}
    mortal = new_pod(owner, Create(sequence=8, lifetime=3000))
    assert mortal["metadata"]["annotations"] == {"vacuum.atlas-sites.io/lifetime": "3000"}


def test_nodes_are_avoided_in_each_alternative_of_the_templates_own_affinity() -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    zones = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in "ab"]
    template = {"spec": {"affinity": {"nodeAffinity": {required: {"nodeSelectorTerms": zones}}, "podAffinity": {}}}}
    owner = {
        "apiVersion": "v",
        "kind": "StartdSet",
        "metadata": {"name": "s", "namespace": "site", "uid": "u"},
        "spec": {"template": template},
    }
    affinity = new_pod(owner, Create(sequence=1, avoid=("n1", "n2")))["spec"]["affinity"]
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in ("n1", "n2")]
    assert affinity["nodeAffinity"][required]["nodeSelectorTerms"] == [
        {**zone, "matchFields": fields} for zone in zones
    ]
    assert affinity["podAffinity"] == {}
    assert zones == [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in "ab"]
    bare = {**owner, "spec": {"template": {"spec": {}}}}
    terms = new_pod(bare, Create(sequence=1, avoid=("n1",)))["spec"]["affinity"]["nodeAffinity"][required]
    assert terms == {"nodeSelectorTerms": [{"matchFields": fields[:1]}]}


@pytest.mark.parametrize("said", ["-5", "true", '"60"', "NaN", "Infinity", "[1]"])
def test_a_number_that_is_none_is_not_believed(said: str) -> None:
    assert message_of(f'600 away\n{{"retryAfterSeconds": {said}}}') == Message(code=600, reason="away")


numbers = st.integers(0, 10_000)
moments = st.integers(1, 4_000_000_000).map(float)
outcomes = st.builds(
    Outcome,
    name=st.text("ab-1", min_size=1),
    what=st.sampled_from(Class),
    reason=st.text("ab"),
    code=st.none() | st.integers(100, 799),
    at=moments,
    seconds=numbers.map(float),
    node=st.text("ab"),
)
statuses = st.builds(
    Status,
    generation=numbers,
    template=st.text("abc", min_size=1),
    sequence=numbers,
    creating=st.lists(numbers).map(tuple),
    proven=st.lists(numbers).map(tuple),
    uncounted=st.lists(st.tuples(st.text("u", min_size=1), st.text("n", min_size=1))).map(tuple),
    window=numbers,
    owed=numbers,
    cut=numbers,
    failures=numbers,
    circuit=st.sampled_from(Circuit),
    level=numbers,
    until=st.none() | moments,
    outcomes=st.dictionaries(st.sampled_from(Class), numbers),
    usage=st.builds(Usage, held=st.dictionaries(st.sampled_from(Class), numbers), busy=numbers, lost=numbers),
    recent=st.lists(outcomes, max_size=3).map(tuple),
    nodes=st.lists(
        st.builds(
            NodeMemory,
            name=st.text("n", min_size=1),
            recent=st.text("bg", max_size=5),
            at=moments,
            until=st.none() | moments,
            level=numbers,
            reason=st.text("r"),
        ),
        max_size=2,
    ).map(tuple),
    blamed=st.lists(
        st.builds(Blamed, name=st.text("n", min_size=1), until=moments, level=numbers, reason=st.text("r")), max_size=2
    ).map(tuple),
    bounds=st.lists(
        st.builds(Bound, name=st.text("b"), startds=st.none() | numbers, because=st.text("w"), stale=st.booleans()),
        max_size=3,
    ).map(tuple),
    startds=st.builds(Count, total=numbers, running=numbers, unproven=numbers, proven=numbers),
    limit=numbers,
    state=st.sampled_from(State),
    message=st.text("m"),
)


@settings(deadline=None)
@given(statuses, moments)
def test_a_status_that_is_written_is_the_status_that_is_read(status: Status, now: float) -> None:
    written = status_json(status, {}, now)
    assert status_of({"status": written}) == status
    assert status_json(status_of({"status": written}), written, now + 60) == written
