"""What many sites share, and what is told when a shared key, a kind or a job pool is wrong."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

import settings
from settings.sites import over, sites_of

pytestmark = pytest.mark.fast

SHARED: dict[str, Any] = {
    "pool": {"collector": "pool.example.org:9618", "trustDomain": "pool.example.org"},
    "credentials": {"hostCertificate": {"secret": "atlas-cert", "namespace": "default"}},
    "squid": {"destinations": [".cern.ch"], "replicas": 3},
    "cvmfs": {"repositories": ["atlas.cern.ch"]},
    "startds": {"limits": {"pods": 100, "cores": 100, "memoryMib": 204800}},
}
HALL: dict[str, Any] = {"name": "hall", "kind": "existing", "context": "hall", "atlasSite": "HALL"}
LOFT: dict[str, Any] = {"name": "loft", "kind": "existing", "context": "loft", "atlasSite": "LOFT"}


def read(*sites: object, defaults: object = SHARED) -> tuple[tuple[settings.Site, ...], list[str]]:
    return sites_of(json.dumps(sites), json.dumps(defaults), secret=False)


def told(*sites: object, defaults: object = SHARED) -> list[str]:
    return read(*sites, defaults=defaults)[1]


def test_a_site_says_only_in_what_it_differs() -> None:
    (hall, loft), found = read(HALL, {**LOFT, "squid": {"replicas": 1}})
    assert found == []
    assert (hall.squid.replicas, loft.squid.replicas) == (3, 1)
    assert hall.squid.destinations == loft.squid.destinations == (".cern.ch",)


def test_a_list_of_a_sites_own_takes_the_place_of_the_shared_one() -> None:
    ((hall,), _) = read({**HALL, "cvmfs": {"repositories": ["sft.cern.ch"]}})
    assert hall.cvmfs.repositories == ("sft.cern.ch",)


BLOCKS = st.recursive(
    st.integers() | st.lists(st.integers()),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


@given(shared=BLOCKS, own=BLOCKS)
def test_what_a_site_says_itself_always_counts_and_nothing_is_invented(shared: Any, own: Any) -> None:
    assert over({}, own) == own
    assert over(own, own) == own
    assert over(over(shared, own), own) == over(shared, own)
    assert set(over(shared, own)) == {*shared, *own}


@pytest.mark.parametrize("key", ["name", "kind", "cluster", "kubeconfig", "formerNames", "sqiud"])
def test_who_a_site_is_and_what_its_cluster_is_cannot_be_shared(key: str) -> None:
    assert told(HALL, defaults={**SHARED, key: "x"}) == [
        (
            f"defaults.{key} is not a key: "
            "sites may share accounting, atlasSite, closedNetworks, credentials, cvmfs, keepaliveSeconds, "
            "metrics, monitoring, nodes, pool, squid, stageOut, startds."
        )
    ]


def test_a_mistake_in_what_is_shared_is_told_once_and_where_it_stands() -> None:
    wrong = {**SHARED, "squid": {"destinations": [".cern.ch"], "replicas": 0}}
    assert told(HALL, LOFT, defaults=wrong) == ["defaults.squid.replicas is 0; allowed: at least 1."]


def test_a_mistake_of_a_site_over_a_shared_value_is_told_at_the_site() -> None:
    assert told(HALL, {**LOFT, "squid": {"replicas": 0}}) == ["sites[1].squid.replicas is 0; allowed: at least 1."]


def test_what_neither_says_is_missing_at_the_site() -> None:
    defaults = {key: value for key, value in SHARED.items() if key != "startds"}
    assert told(HALL, defaults=defaults) == ["sites[0].startds is missing."]


@pytest.mark.parametrize(
    ("defaults", "words"),
    [("x", "defaults is 'x'; allowed: a block of keys."), ([1], "defaults is a list; allowed: a block of keys.")],
)
def test_what_is_shared_is_a_block(defaults: object, words: str) -> None:
    assert told(HALL, defaults=defaults) == [words]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": ...}, "kind is missing: say one of existing, azure, gcp, aws"),
        ({"kind": 3}, "kind is 3; allowed: existing, azure, gcp, aws"),
        ({"kind": "gke"}, "kind is 'gke'; allowed: existing, azure, gcp, aws"),
    ],
)
def test_a_kind_that_is_none_is_told(change: dict[str, object], words: str) -> None:
    site = {key: value for key, value in {**HALL, **change}.items() if value is not ...}
    assert told(site) == [f"sites[0].{words}."]


def test_a_former_name_is_taken() -> None:
    (sentence,) = told({**HALL, "formerNames": ["loft"]}, LOFT)
    assert sentence == "sites[1].name is 'loft' again: each site needs a name of its own."


def test_a_renamed_site_keeps_its_oldest_name_outside() -> None:
    (hall, _), _ = read({**HALL, "formerNames": ["cellar", "attic"]}, LOFT)
    assert (hall.name, hall.lasting_name) == ("hall", "cellar")


def test_all_mistakes_of_all_sites_are_told_at_once() -> None:
    assert [sentence.split(" is ")[0] for sentence in told({**HALL, "name": "A"}, {**LOFT, "kind": "x"})] == [
        "sites[0].name",
        "sites[1].kind",
    ]


CLUSTER: dict[str, Any] = {
    "region": "westeurope",
    "kubernetesVersion": "1.34",
    "authorizedNetworks": ["192.0.2.0/24"],
    "systemPool": {"size": "Standard_D4ds_v5"},
    "subscription": "00000000-0000-0000-0000-000000000000",
    "adminGroups": ["00000000-0000-0000-0000-000000000000"],
}
POOL: dict[str, Any] = {"name": "jobs", "size": "Standard_D4ds_v5", "max": 10}
AZURE: dict[str, Any] = {"name": "cloud", "kind": "azure", "atlasSite": "CLOUD", "cluster": CLUSTER, "jobPools": [POOL]}


def test_a_mode_that_cannot_mount_cvmfs_is_refused_with_the_reason() -> None:
    assert told({**AZURE, "cluster": {**CLUSTER, "mode": "Automatic"}}) == [
        (
            "sites[0].cluster.mode is 'Automatic'; "
            "allowed: Base; Automatic forbids the privileged pods that mount CVMFS on each node."
        )
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "much-too-long"}, "name is 'much-too-long'; allowed: a letter, then letters and digits"),
        ({"generation": 0}, "generation is 0; allowed: at least 1"),
        ({"max": 0}, "max is 0; allowed: at least 1"),
        ({"vmSize": "x"}, "vmSize is not a key: did you mean size"),
        ({"min": 11}, "min is 11: it must not exceed max, 10"),
    ],
)
def test_a_mistake_in_a_job_pool_is_one_sentence(change: dict[str, object], words: str) -> None:
    (sentence,) = told({**AZURE, "jobPools": [{**POOL, **change}]})
    assert sentence.startswith(f"sites[0].jobPools[0].{words}")


def test_of_a_pools_generations_one_stays() -> None:
    old, new = {**POOL, "retiring": True}, {**POOL, "generation": 2}
    assert told({**AZURE, "jobPools": [old, new]}) == []
    assert told({**AZURE, "jobPools": [POOL, new]}) == [
        "sites[0].jobPools has generations 1 and 2 of pool jobs: write `retiring: true` into all but the newest."
    ]
    assert told({**AZURE, "jobPools": [POOL, old]}) == [
        "sites[0].jobPools[1] is generation 1 of pool jobs again: give it the next one."
    ]


def test_a_secret_among_the_shared_keys_must_be_encrypted_too() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    defaults = {**SHARED, "credentials": {"hostCertificate": {"certificate": certificate, "key": key}}}
    (sentence,) = told(HALL, defaults=defaults)
    assert "is written in clear" in sentence
    assert "MIIB" not in sentence
