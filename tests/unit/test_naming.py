"""Names that are a contract: within Kubernetes' limits, and never the same for two sites."""

import re

import pytest
from hypothesis import given, settings as runs, strategies as st

from components import naming

pytestmark = pytest.mark.fast

site_names = st.from_regex(r"[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,10}){0,3}", fullmatch=True).filter(naming.is_site_name)
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@pytest.mark.parametrize("name", ["a", "dev", "cern-prod-1", "kubernetes", "defaults", "a" * 56])
def test_a_site_may_be_called(name: str) -> None:
    assert naming.is_site_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "A", "1a", "-a", "a-", "a--b", "a.b", "a_b", "a b", "ä", "a\n", "a" * 57,
        "a-system", "default", "kube", "kube-public", "kube-node-lease",
    ],
)  # fmt: skip
def test_a_site_may_not_be_called(name: str) -> None:
    assert not naming.is_site_name(name)
    with pytest.raises(ValueError, match="cannot be the name of a site; allowed: a lower-case letter"):
        naming.namespace(name)


@runs(deadline=None)
@given(site_names)
def test_every_name_made_of_a_site_is_one_that_kubernetes_takes(site: str) -> None:
    for name in (
        naming.namespace(site),
        naming.system_namespace(site),
        naming.cvmfs_volume(site),
        naming.service_priority(site),
    ):
        assert LABEL.fullmatch(name)


@runs(deadline=None)
@given(site_names, site_names)
def test_two_sites_share_no_namespace(one: str, other: str) -> None:
    namespaces = {naming.namespace(one), naming.system_namespace(one)}
    others = {naming.namespace(other), naming.system_namespace(other)}
    assert one == other or not namespaces & others


def test_the_longest_name_still_leaves_room_for_the_system_namespace() -> None:
    assert len(naming.system_namespace("a" * naming.SITE_NAME_MAX)) == naming.LABEL_MAX


@runs(deadline=None)
@given(site_names)
def test_the_namespace_of_a_service_is_found_in_its_host_name(site: str) -> None:
    assert naming.namespace_of_host(naming.service_host("squid", naming.namespace(site))) == site


@pytest.mark.parametrize(
    ("host", "namespace"),
    [
        ("cm.pool.svc.cluster.local", "pool"),
        ("cm.pool.svc.cluster.local.", "pool"),
        ("cm.pool.svc", "pool"),
        ("pool.example.org", None),
        ("cm.pool", None),
        ("cm", None),
    ],
)
def test_only_a_name_of_the_cluster_has_a_namespace(host: str, namespace: str | None) -> None:
    assert naming.namespace_of_host(host) == namespace


@runs(deadline=None)
@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_texts_that_differ_have_checksums_that_differ(one: list[str], other: list[str]) -> None:
    assert (naming.checksum(*one) == naming.checksum(*other)) is (one == other)


def test_a_checksum_fits_into_a_label() -> None:
    assert LABEL.fullmatch(naming.checksum("text"))
