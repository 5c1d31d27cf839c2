"""What bounds a set beside its own spec, as a real API server has it: the controller agrees with what that refuses."""

import json
from typing import Any

import pytest

from tests.cluster.controller import NAMESPACE, STAYS, Site

pytestmark = pytest.mark.cluster


def put(place: Site, kind: str, name: str, spec: dict[str, Any]) -> None:
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    place.cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(body))


def bounds(place: Site) -> dict[str, dict[str, Any]]:
    return {bound["name"]: bound for bound in place.status().get("bounds", ())}


def running(place: Site) -> int:
    return int(place.status().get("startds", {}).get("running", 0))


def test_a_quota_rules_from_the_first_startd_on_and_its_rise_is_noticed(place: Site) -> None:
    put(place, "ResourceQuota", "cores", {"hard": {"limits.cpu": "2", "services": "0"}})
    put(place, "ResourceQuota", "scraps", {"hard": {"pods": "0"}, "scopes": ["BestEffort"]})
    # Pods are refused until the quotas' own controller has counted for the first time.
    place.eventually(
        lambda: all("hard" in quota.get("status", {}) for quota in place.get("resourcequota")["items"]), "they count"
    )
    place.start()
    place.apply(place.spec(STAYS))
    place.eventually(lambda: running(place) == 2, "as many run as the quota allows")
    place.eventually(lambda: bounds(place)["quota cores"]["because"] == "2 of 2 limits.cpu are used", "the use is told")
    assert (place.status()["limit"], place.status()["state"]) == (2, "Steady")
    assert "quota scraps" not in bounds(place)
    assert "exceeded quota" not in place.log.read_text()
    put(place, "ResourceQuota", "cores", {"hard": {"limits.cpu": "8", "services": "0"}})
    place.eventually(lambda: running(place) == 3, "the set's own limit rules now")
    place.delete()


def test_what_the_controller_may_not_read_is_told_with_the_remedy_and_does_not_rule(place: Site) -> None:
    place.start()  # its account has no right outside the namespace
    place.apply(place.spec(STAYS))
    place.eventually(lambda: running(place) == 3, "the site is full")
    nodes = bounds(place)["nodes"]
    assert "startds" not in nodes
    assert 'cannot list resource "nodes"' in nodes["because"]
    assert nodes["because"].endswith("let the controller's role list and watch them")
    place.delete()


def test_a_template_above_a_limit_range_has_no_startd_until_the_limit_range_goes(place: Site) -> None:
    put(place, "LimitRange", "small", {"limits": [{"type": "Container", "max": {"cpu": "500m"}}]})
    place.start()
    place.apply(place.spec(STAYS))
    sentence = "no container may have more than 0.5 cpu, and the template asks for 1"
    place.eventually(lambda: sentence in place.status().get("message", ""), "the set says why")
    assert place.pods() == []
    place.cluster.kubectl("delete", "limitrange", "small", "-n", NAMESPACE)
    place.eventually(lambda: running(place) == 3, "the set grows")
    place.delete()
