"""What a stack may say; each wrong key, unit, range or combination is one sentence."""

import ast
import copy
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pulumi
import pytest
import yaml
from hypothesis import given, settings as runs, strategies as st
from pydantic import ValidationError

import settings
from tests.program.monitor import deploy

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
DIGEST = f"sha256:{'0' * 64}"
IMAGES = {
    "registry": "registry.example.org/atlas",
    "digests": {
        "startd": DIGEST,
        "squid": DIGEST,
        "services": DIGEST,
        "timeseries": DIGEST,
        "cvmfs": f"registry.example.org/cern/cvmfs@{DIGEST}",
    },
}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n"
SITE = {
    "name": "here",
    "kind": "existing",
    "atlasSite": "HERE_PROD",
    "pool": {"collector": "pool.example.org:9618", "trustDomain": "pool.example.org"},
    "credentials": {"hostCertificate": {"secret": "atlas-cert", "namespace": "default"}},
    "squid": {"destinations": [".cern.ch", "frontier.example.org"]},
    "cvmfs": {"repositories": ["atlas.cern.ch"]},
    "startds": {"limits": {"pods": 100, "cores": 100, "memoryMib": 200 * 1024}},
}


def with_change(path: str, value: object, site: dict[str, Any] | None = None) -> dict[str, Any]:
    """The site with another value under a dotted path; an Ellipsis takes the key away."""
    changed: dict[str, Any] = copy.deepcopy(site or SITE)
    *above, last = path.split(".")
    block = changed
    for key in above:
        block = block.setdefault(key, {})
    if value is ...:
        del block[last]
    else:
        block[last] = value
    return changed


def told(*sites: object, images: object = IMAGES, secret: bool = False) -> list[str]:
    """The sentences with which a stack of these sites is refused; none when it is taken."""
    config = {"atlas-sites:sites": json.dumps(sites)}
    if images is not None:
        config["atlas-sites:images"] = images if isinstance(images, str) else json.dumps(images)
    try:
        deploy(settings.load, config=config, secret_config=["atlas-sites:sites"] if secret else [])
    except pulumi.RunError as error:
        first, *sentences = str(error).splitlines()
        assert first == "Pulumi.dev.yaml cannot be used:"
        return sentences
    return []


def parsed(site: dict[str, Any] = SITE) -> settings.Site:
    sites, found = settings.sites.sites_of(json.dumps([site]), None, secret=True)
    assert not found
    return sites[0]


def test_a_site_with_the_least_that_must_be_said_is_taken_and_the_rest_has_defaults() -> None:
    assert told(SITE) == []
    site = parsed()
    assert site.keepalive_seconds == 180
    assert (site.credentials.proxy_hours, site.credentials.refresh_hours) == (96, 6)
    assert site.cvmfs.mode == "daemonset"
    assert site.startds.requested_cores is None


def test_the_dev_stack_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built = tmp_path / "images.json"
    built.write_text(json.dumps(dict.fromkeys(settings.images.IMAGE_NAMES, "localhost/x:1")))
    monkeypatch.setenv("ATLAS_SITES_IMAGES", str(built))
    config = yaml.safe_load((CHECKOUT / "Pulumi.dev.yaml").read_text())["config"]
    assert told(*config["atlas-sites:sites"], images=config["atlas-sites:images"]) == []


PORT = "a lower-case host name and a port, as in pool.example.org:9618"
NETWORK = "a network in CIDR form, as in 192.0.2.0/24"
DESTINATION = "a host name without port, or one with a leading dot for all hosts of a domain"
PEM = "is text that is not shown here; allowed: certificates in PEM form, and nothing else"
ONE_AUTHORITY = "must be either pem, or configMap and namespace"
TOO_OFTEN = (
    "is 25: a proxy of 96 hours would fall to 71 before it is renewed, "
    "below the 72 that a pilot asks for; allowed: at most 24"
)
ALARM = "it must lie between criticalHours, which is 72, and the 90 that are left of a proxy when it is renewed"
INDEX = "is 1024: the index of a cache of 51200 MiB takes 700 MiB, so allow at least 2800, or lower cacheMib"
POOL = {
    "name": "jobs",
    "selector": {"pool": "jobs"},
    "max": 20,
    "cores": 15.8,
    "memoryMib": 60000,
    "diskMib": 400000,
    "pricePerHour": 0.7,
}
NO_PRICE = "startds.limits.costPerHour needs to know what a startd costs, and"
WRONG_KEYS = [
    ("sqiud", {}, "is not a key: did you mean squid"),
    ("startds.limits.memory", 1, "is not a key: did you mean memoryMib"),
    ("cvmfs.csi", 1, "is not a key: the keys here are mode, claim, repositories, serverUrl, quotaMib"),
    ("atlasSite", ..., "is missing"),
    ("startds.limits.memoryMib", ..., "is missing: give it in MiB"),
]
WRONG_UNITS = [
    ("startds.memoryMib", "2Gi", "is '2Gi'; allowed: a whole number of MiB"),
    ("startds.drainSeconds", "1h", "is '1h'; allowed: a whole number of seconds"),
    ("credentials.proxyHours", 96.5, "is 96.5; allowed: a whole number of hours"),
    ("startds.cores", 1.5, "is 1.5; allowed: a whole number"),
    ("squid.destinations", "cern.ch", "is 'cern.ch'; allowed: a list"),
    ("squid", None, "is empty; allowed: a block of keys"),
]
WRONG_RANGES = [
    ("keepaliveSeconds", 201, "is 201; allowed: at most 200 seconds"),
    ("squid.replicas", 0, "is 0; allowed: at least 1"),
    ("credentials.proxyHours", 72, "is 72; allowed: at least 73 hours"),
    ("startds.requestedCores", 0.001, "is 0.001; allowed: at least 0.01"),
    ("squid.destinations", [], "is an empty list; allowed: at least 1 entry"),
]
WRONG_FORMS = [
    ("kind", "minikube", "is 'minikube'; allowed: existing, azure, gcp, aws"),
    ("cvmfs.mode", "nfs", "is 'nfs'; allowed: 'daemonset', 'host' or 'csi'"),
    ("cvmfs.serverUrl", "ftp://x", "is 'ftp://x'; allowed: an http:// or https:// address"),
    ("pool.collector", "pool.example.org", f"is 'pool.example.org'; allowed: {PORT}"),
    ("pool.collector", "pool.example.org:70000", f"is 'pool.example.org:70000'; allowed: {PORT}"),
    ("kubeconfig", "kind: Config\nusers:\n", "is text that is not shown here; allowed: the path of a file"),
]
WRONG_ENTRIES = [
    ("cvmfs.repositories", "atlas", "allowed: the full name of a CVMFS repository, as in atlas.cern.ch"),
    ("squid.clients", "10.0.0.1/8", f"allowed: {NETWORK}, but not all networks"),
    ("squid.clients", "0.0.0.0/0", f"allowed: {NETWORK}, but not all networks"),
    ("pool.networks", "169.254.169.254/32", f"allowed: {NETWORK}, without the clouds' metadata servers"),
    ("squid.destinations", "http://cern.ch", f"allowed: {DESTINATION}"),
]
WRONG_COMBINATIONS = [
    ("pool.certificateAuthority", {"configMap": "pool-ca"}, ONE_AUTHORITY),
    ("pool.certificateAuthority", {"pem": CERTIFICATE, "namespace": "pool"}, ONE_AUTHORITY),
    ("pool.certificateAuthority", {}, ONE_AUTHORITY),
    ("credentials.hostCertificate", {"secret": "x"}, "must be either secret and namespace, or certificate and key"),
    ("credentials.refreshHours", 25, TOO_OFTEN),
    ("credentials.alarmHours", 91, f"is 91: {ALARM}"),
    ("credentials.alarmHours", 71, f"is 71: {ALARM}"),
    ("squid.memoryMib", 1024, INDEX),
    ("startds.requestedCores", 2, "is 2.0: a startd cannot request more than its cores, 1"),
]
VOMS = {"organisation": "atlas", "configMap": "voms", "namespace": "default"}
IN_BLOCKS = [
    (
        "credentials.voms",
        {**VOMS, "attributes": ["/cms/Role=production"]},
        "attributes[0] is '/cms/Role=production', which is not in atlas: it must be /atlas or begin with /atlas/",
    ),
    (
        "credentials.voms",
        {**VOMS, "attributes": ["atlas:production"]},
        "attributes[0] is 'atlas:production'; allowed: a VOMS group or role, as in /atlas/Role=production",
    ),
    ("pool.certificateAuthority", {"pem": KEY}, f"pem {PEM}"),
    ("pool.certificateAuthority", {"pem": CERTIFICATE + KEY}, f"pem {PEM}"),
    (
        "startds.window",
        {"initial": 5, "maximum": 4},
        "initial is 5: it must not exceed startds.window.maximum, 4",
    ),
    (
        "startds.backoff",
        {"baseSeconds": 20, "capSeconds": 10},
        "baseSeconds is 20: it must not exceed startds.backoff.capSeconds, 10",
    ),
]


def test_a_closed_network_is_one_in_cidr_form() -> None:
    (said,) = told(with_change("closedNetworks", ["192.0.2.1/24"]))
    assert said.startswith("sites[0].closedNetworks[0] is '192.0.2.1/24'; allowed: a network in CIDR form")


@pytest.mark.parametrize(
    ("path", "value", "words"), [*WRONG_KEYS, *WRONG_UNITS, *WRONG_RANGES, *WRONG_FORMS, *WRONG_COMBINATIONS]
)
def test_a_mistake_is_one_sentence(path: str, value: object, words: str) -> None:
    assert told(with_change(path, value)) == [f"sites[0].{path} {words}."]


@pytest.mark.parametrize(("path", "entry", "words"), WRONG_ENTRIES)
def test_a_wrong_entry_of_a_list_is_one_sentence(path: str, entry: str, words: str) -> None:
    assert told(with_change(path, [entry])) == [f"sites[0].{path}[0] is {entry!r}; {words}."]


@pytest.mark.parametrize(("path", "value", "words"), IN_BLOCKS)
def test_a_mistake_inside_a_block_is_one_sentence(path: str, value: object, words: str) -> None:
    assert told(with_change(path, value)) == [f"sites[0].{path}.{words}."]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 3}, "size is not a key: the keys here are name, selector, max, cores, memoryMib, diskMib, pods"),
        ({"max": "20"}, "max is '20'; allowed: a whole number"),
        ({"cores": 0}, "cores is 0; allowed: more than 0"),
        ({"memoryMib": 60.5}, "memoryMib is 60.5; allowed: a whole number of MiB"),
        ({"pods": 0}, "pods is 0; allowed: at least 1"),
        ({"pricePerHour": 0}, "pricePerHour is 0; allowed: more than 0"),
        ({"selector": {}}, "selector is a block of keys; allowed: at least 1 entry"),
        ({"selector": {"pool": 1}}, "selector.pool is 1; allowed: text"),
        ({"selector": {"pool": "a b"}}, "selector.pool is 'a b'; allowed: the value of a Kubernetes label or taint"),
        (
            {"taints": [{"key": "k", "effect": "Never"}]},
            "taints[0].effect is 'Never'; allowed: 'NoSchedule' or 'NoExecute'",
        ),
    ],
)
def test_a_mistake_in_a_node_pool_is_one_sentence(change: dict[str, object], words: str) -> None:
    (sentence,) = told({**SITE, "pools": [{**POOL, **change}]})
    assert sentence.startswith(f"sites[0].pools[0].{words}")


def test_a_node_pool_without_what_its_nodes_have_is_told() -> None:
    pool = {key: value for key, value in POOL.items() if key != "memoryMib"}
    assert told({**SITE, "pools": [pool]}) == ["sites[0].pools[0].memoryMib is missing: give it in MiB."]


def test_a_node_is_of_one_pool() -> None:
    assert told({**SITE, "pools": [POOL, {**POOL, "name": "spot", "selector": {"pool": "spot"}}]}) == []
    assert told({**SITE, "pools": [POOL, POOL]}) == [
        "sites[0].pools[1].name is 'jobs' again: each node pool needs a name of its own."
    ]
    (sentence,) = told({**SITE, "pools": [POOL, {**POOL, "name": "spot"}]})
    assert sentence == (
        "sites[0].pools[1].selector is that of pool jobs too: "
        "give labels that tell the nodes of one from those of the other."
    )


@pytest.mark.parametrize(
    ("pools", "words"),
    [
        (..., f"{NO_PRICE} the site names no pools: give it, or leave the limit out"),
        ([], f"{NO_PRICE} the site names no pools: give it, or leave the limit out"),
        (
            [{**POOL, "pricePerHour": None}],
            f"{NO_PRICE} pool jobs has no pricePerHour: give it, or leave the limit out",
        ),
    ],
)
def test_a_limit_of_money_needs_prices(pools: object, words: str) -> None:
    site = with_change("startds.limits.costPerHour", 12.5)
    assert told({**site, "pools": [POOL]}) == []
    assert told(with_change("pools", pools, {**site, "pools": []})) == [f"sites[0].{words}."]


def test_what_a_site_gets_first_is_within_its_limits() -> None:
    (sentence,) = told(with_change("startds.share", {"floor": 101}))
    assert sentence == "sites[0].startds.share.floor is 101: it must not exceed startds.limits.pods, 100."
    assert told(with_change("startds.share", {"weight": 3, "floor": 100})) == []


@pytest.mark.parametrize(("key", "most"), [("cores", 100), ("memoryMib", 204800)])
def test_one_startd_must_fit_into_the_limits_of_all(key: str, most: int) -> None:
    (sentence,) = told(with_change(f"startds.{key}", most + 1))
    assert sentence == (
        f"sites[0].startds.{key} is {most + 1}: not one startd fits into startds.limits.{key}, {most}; "
        "lower the first or raise the second."
    )
    assert told(with_change(f"startds.{key}", most)) == []


def test_a_destination_that_another_includes_is_left_out() -> None:
    site = with_change("squid.destinations", ["cvmfs.cern.ch", ".cern.ch"])
    (sentence,) = told(site)
    assert sentence == (
        "sites[0].squid.destinations[0] is 'cvmfs.cern.ch', which '.cern.ch' includes already: leave it out."
    )


def test_a_server_is_not_named_for_repositories_that_the_node_mounts() -> None:
    site = with_change("cvmfs", {"mode": "host", "repositories": ["atlas.cern.ch"], "serverUrl": "http://x/@fqrn@"})
    (sentence,) = told(site)
    assert sentence == (
        "sites[0].cvmfs.serverUrl says where the DaemonSet mounts from: "
        "leave it out with mode host, where the node's own client decides."
    )


@pytest.mark.parametrize(
    ("cvmfs", "sentence"),
    [
        (
            {"mode": "csi"},
            "claim is missing: with mode csi name the claim of the CVMFS driver (docs/runbooks/cvmfs.md).",
        ),
        ({"claim": "cvmfs"}, "claim is 'cvmfs', but with mode daemonset the claim is made here: leave it out."),
        (
            {"mode": "csi", "claim": "cvmfs", "serverUrl": "http://x/@fqrn@"},
            "serverUrl says where the DaemonSet mounts from: leave it out with mode csi, where the driver decides.",
        ),
    ],
)
def test_a_claim_is_named_with_mode_csi_and_with_no_other(cvmfs: dict[str, str], sentence: str) -> None:
    assert told(with_change("cvmfs", {"repositories": ["atlas.cern.ch"], **cvmfs})) == [f"sites[0].cvmfs.{sentence}"]


CONTAINER = "https://atlas.blob.core.windows.net/out"
EITHER = "must be either own, or container and secret."


@pytest.mark.parametrize(
    ("stage_out", "sentence"),
    [
        ({}, EITHER),
        ({"container": CONTAINER}, EITHER),
        ({"secret": "sas"}, EITHER),
        ({"own": {}, "container": CONTAINER, "secret": "sas"}, EITHER),
        (
            {"own": {}},
            "own is made by sites of kind azure: name a container that is there, and the Secret with its SAS.",
        ),
    ],
)
def test_files_go_out_to_a_container_of_the_sites_own_or_to_one_that_is_there(
    stage_out: dict[str, Any], sentence: str
) -> None:
    (found,) = told(with_change("stageOut", stage_out))
    assert found in {f"sites[0].stageOut {sentence}", f"sites[0].stageOut.{sentence}"}
    assert told(with_change("stageOut", {"container": CONTAINER, "secret": "sas"})) == []


@pytest.mark.parametrize(
    "container",
    ["http://atlas.blob.core.windows.net/out", "https://atlas.blob.core.windows.net", f"{CONTAINER}?sig=x", "out"],
)
def test_a_container_is_named_by_its_address_and_without_what_opens_it(container: str) -> None:
    (sentence,) = told(with_change("stageOut", {"container": container, "secret": "sas"}))
    assert sentence.startswith(f"sites[0].stageOut.container is '{container}'; allowed: the address of a container, ")


def test_all_mistakes_of_all_sites_and_of_the_images_are_told_at_once() -> None:
    found = told(with_change("name", "A"), with_change("atlasSite", ...), images=None)
    assert [sentence.split(" is ")[0] for sentence in found] == ["images", "sites[0].name", "sites[1].atlasSite"]


def test_two_sites_need_two_names_and_two_clusters() -> None:
    found = told(SITE, SITE)
    assert [sentence.split(":")[0] for sentence in found] == [
        "sites[1].name is 'here' again",
        "sites[1] is on the same cluster as an earlier site",
    ]
    assert told(SITE, {**SITE, "name": "there", "context": "there"}) == []


def test_a_stack_without_sites_is_told_where_to_look() -> None:
    with pytest.raises(pulumi.RunError, match=r"sites is missing: list at least one site; Pulumi.dev.yaml shows every"):
        deploy(settings.load, config={"atlas-sites:images": json.dumps(IMAGES)})


HOST_PAIR = {"certificate": CERTIFICATE, "key": KEY}


def test_a_host_key_must_be_encrypted() -> None:
    site = with_change("credentials.hostCertificate", HOST_PAIR)
    assert told(site, secret=True) == []
    (sentence,) = told(site, secret=False)
    assert sentence == (
        "sites[0].credentials.hostCertificate.key is written in clear: "
        "set it with `pulumi config set --secret --path`, and replace the key, which others may have read."
    )


def test_a_host_key_is_never_shown() -> None:
    assert "PRIVATE KEY" not in repr(parsed(with_change("credentials.hostCertificate", HOST_PAIR)))
    wrong = {"certificate": KEY, "key": CERTIFICATE}
    assert all(
        "MIIB" not in sentence for sentence in told(with_change("credentials.hostCertificate", wrong), secret=True)
    )


@pytest.mark.parametrize("key", [CERTIFICATE, "text", KEY.replace("RSA", "ENCRYPTED"), f"{KEY}Proc-Type: 4,ENCRYPTED"])
def test_a_host_key_must_be_one_that_can_be_read(key: str) -> None:
    site = with_change("credentials.hostCertificate", {"certificate": CERTIFICATE, "key": key})
    (sentence,) = told(site, secret=True)
    assert sentence == (
        "sites[0].credentials.hostCertificate.key is text that is not shown here; "
        "allowed: a private key in PEM form, without a passphrase."
    )


def test_settings_cannot_be_changed() -> None:
    site = parsed()
    with pytest.raises(ValidationError):
        site.name = "there"  # type: ignore[misc]  # it is what is tried


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (None, "images is missing: write `images: local` in stack dev"),
        ("latest", "images is 'latest'; allowed: local (in stack dev), or a block of registry and digests."),
        ("{", "images is text that is neither a list nor a block of keys"),
        ({"registry": "r"}, "images.digests is missing."),
        ({**IMAGES, "registry": "https://r"}, "images.registry is 'https://r'; allowed: a registry and path"),
        (
            {**IMAGES, "digests": dict.fromkeys(settings.images.IMAGE_NAMES, "v1")},
            "images.digests.cvmfs is 'v1'; allowed: ",
        ),
    ],
)
def test_wrong_images_are_told(images: object, words: str) -> None:
    assert any(sentence.startswith(words) for sentence in told(SITE, images=images))


def test_an_image_is_named_by_registry_name_and_digest_and_another_s_as_it_is() -> None:
    images, found = settings.images.images_of(json.dumps(IMAGES), "azure")
    assert not found
    assert images is not None
    assert images.startd == f"registry.example.org/atlas/startd@{DIGEST}"
    assert images.cvmfs == f"registry.example.org/cern/cvmfs@{DIGEST}"


def test_only_the_dev_stack_runs_what_was_built_here() -> None:
    images, (sentence,) = settings.images.images_of("local", "azure")
    assert images is None
    assert sentence == (
        "images is local, which only stack dev may use: "
        "publish them with `make images PUSH=<registry>` and paste the block it prints."
    )


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"startd": 5}', '{"startd": "x"}'])
def test_images_that_were_not_built_are_told(text: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATLAS_SITES_IMAGES", str(tmp_path / "images.json"))
    if text is not None:
        (tmp_path / "images.json").write_text(text)
    (sentence,) = told(SITE, images="local")
    assert sentence.startswith("images is local, but ")
    assert sentence.endswith("run `make up`.")


@runs(deadline=None)
@given(st.lists(st.sampled_from(["a.b.ch", "b.ch", ".b.ch", "ch.example", ".ch", "xb.ch", ".example"]), min_size=1))
def test_squid_is_never_given_a_destination_that_another_includes(destinations: list[str]) -> None:
    refused = any(settings.contradictions._needless_destinations(destinations))
    hosts = ["a.b.ch", "b.ch", "xb.ch", "ch.example", "x.a.b.ch"]
    reached = [{host for host in hosts if _includes(one, host)} for one in destinations]
    needless = any(
        one <= other for index, one in enumerate(reached) for position, other in enumerate(reached) if index != position
    )
    assert refused is needless


def _includes(destination: str, host: str) -> bool:
    return host == destination or (destination.startswith(".") and f".{host}".endswith(destination))


numbers = st.integers(-10, 10**6)


@runs(deadline=None)
@given(st.sampled_from(["cacheMib", "memoryMib", "replicas"]), numbers)
def test_whatever_number_is_given_the_answer_is_a_site_or_sentences(key: str, number: int) -> None:
    sites, found = settings.sites.sites_of(json.dumps([with_change(f"squid.{key}", number)]), None, secret=False)
    assert bool(found) or len(sites) == 1
    assert all(sentence.startswith("sites[0].squid.") and sentence.endswith(".") for sentence in found)


def test_nothing_but_the_settings_reads_the_configuration() -> None:
    """Everything else is told what it needs, so that what a stack may say is written in one place."""
    own = [CHECKOUT / name for name in ("__main__.py", "clusters.py", "sites.py", "outputs.py")]
    for file in (*own, *(CHECKOUT / "components").rglob("*.py")):
        names = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        assert "Config" not in names, file


@pytest.mark.parametrize(
    ("accounting", "sentence"),
    [
        ({"budget": {}, "coreHourPrice": 1.5}, "says neither perDay nor perMonth"),
        ({"budget": {"perDay": 5}}, "needs to know what is spent"),
        ({"bill": {"source": "azure", "identity": str(UUID(int=1))}}, "needs subscription and resourceGroups"),
        ({"bill": {"source": "google", "identity": "a@b.iam.gserviceaccount.com"}}, "needs table"),
        ({"bill": {"source": "oracle", "identity": str(UUID(int=1))}}, "accounting.bill.source"),
        ({"ledger": {"mode": "scratch", "storageClass": "fast"}}, "is of a claim"),
        ({"currency": "euro"}, "three letters of a currency"),
        ({"coreHourPrice": -1}, "coreHourPrice"),
        ({"series": {"url": "http://influx/write", "database": "x"}}, "series.url"),
        ({"series": {}}, "accounting.series must be either own, or url and database."),
        ({"series": {"url": "http://influx"}}, "accounting.series must be either own, or url and database."),
        ({"series": {"own": {}, "secret": "y"}}, "accounting.series must be either own, or url and database."),
        ({"series": {"own": {"mode": "scratch", "storageClass": "fast"}}}, "accounting.series.own.storageClass is of"),
        (
            {"series": {"url": "http://influx.example.org", "database": "x", "secret": "y"}},
            "accounting.series.url would send the Secret in clear over networks of others: make it https://",
        ),
    ],
)
def test_a_contradiction_in_the_books_is_one_sentence(accounting: dict[str, Any], sentence: str) -> None:
    (found,) = told({**SITE, "accounting": {"currency": "EUR", **accounting}})
    assert sentence in found


def test_a_site_that_keeps_its_metrics_says_how_long_and_where() -> None:
    for metrics in ({}, {"days": 7, "store": {"mode": "scratch", "mib": 512}}):
        assert told({**SITE, "metrics": metrics}) == []
    (found,) = told({**SITE, "metrics": {"store": {"mode": "scratch", "storageClass": "fast"}}})
    assert found == "sites[0].metrics.store.storageClass is of a claim: leave it out with mode scratch."
    (found,) = told({**SITE, "metrics": {"days": 0}})
    assert "metrics.days" in found


def test_books_need_no_more_than_a_currency() -> None:
    assert told({**SITE, "accounting": {"currency": "EUR"}}) == []
    series = {"url": "http://influxdb.monitoring.svc:8086", "database": "x", "secret": "y"}
    stores: tuple[dict[str, Any], ...] = (series, {"own": {}}, {"own": {"mode": "scratch", "mib": 256}})
    for kept in stores:
        assert told({**SITE, "accounting": {"currency": "EUR", "series": kept}}) == []
    assert told({**SITE, "accounting": {"currency": "EUR", "coreHourPrice": 0.02, "budget": {"perDay": 5}}}) == []
