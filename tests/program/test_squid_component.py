"""The squids: each one apart, all behind one address, and open to nobody but the site's pods."""

from typing import Any

import pytest
from hypothesis import given, settings as runs, strategies as st

from components import labels, naming
from components.squid import CACHE, CONFIGURATION, MEMBER, STATE, UID, Squids, SquidsArgs, configuration
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
IMAGE = f"registry.example.org/atlas/squid@sha256:{'0' * 64}"


def arguments(**changes: Any) -> SquidsArgs:
    given_all = {
        "site": "here",
        "namespace": "here",
        "priority": "here-service",
        "image": IMAGE,
        "replicas": 2,
        "destinations": [".cern.ch", "frontier.example.org"],
        "clients": ["10.0.0.0/8", "fc00::/7"],
        "cache_mib": 50_000,
        "memory_mib": 4096,
    }
    return SquidsArgs(**{**given_all, **changes})


def declared(**changes: Any) -> tuple[Monitor, Squids]:
    made: list[Squids] = []
    monitor = deploy(lambda: made.append(Squids("here-squid", arguments(**changes))))
    return monitor, made[0]


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    template: dict[str, Any] = deployment["spec"]["template"]
    return template


def squid_of(spec: dict[str, Any]) -> dict[str, Any]:
    """The container of the pod that is squid itself."""
    (container,) = [each for each in spec["containers"] if each["name"] == "squid"]
    return dict(container)


def directives(args: SquidsArgs) -> list[list[str]]:
    """The lines of squid.conf that say something, as words."""
    return [line.split() for line in configuration(args).splitlines() if line.strip() and not line.startswith("#")]


def test_every_part_hangs_on_the_component_and_keeps_to_the_policies() -> None:
    monitor, _ = declared()
    tree.check(monitor)
    component = monitor.one("atlas-sites:index:Squids")
    assert len(monitor.children(component)) == len(monitor.resources) - 2


def test_what_it_promises_is_what_a_client_needs() -> None:
    monitor, squids = declared()
    one, two, vip = (f"http://{name}.here.svc.cluster.local:3128" for name in ("squid-0", "squid-1", "squid"))
    assert squids.endpoints == [one, two]
    assert squids.vip == vip
    # Shards over each squid by itself, and only when none answers asks the address that spreads by connection.
    assert squids.proxies == f"{one}|{two};{vip}"
    assert monitor.one("atlas-sites:index:Squids").outputs == {
        "proxies": squids.proxies,
        "vip": vip,
        "endpoints": [one, two],
    }


def test_each_squid_has_a_service_of_its_own_that_picks_no_other() -> None:
    monitor, _ = declared(replicas=3)
    pods = {each.inputs["metadata"]["name"]: pod(each.inputs)["metadata"]["labels"] for each in monitor.all(DEPLOYMENT)}
    assert sorted(pods) == ["squid-0", "squid-1", "squid-2"]
    picked = {
        service.inputs["metadata"]["name"]: [
            name for name, its in pods.items() if service.inputs["spec"]["selector"].items() <= its.items()
        ]
        for service in monitor.all(SERVICE)
    }
    assert picked == {
        "squid-0": ["squid-0"],
        "squid-1": ["squid-1"],
        "squid-2": ["squid-2"],
        "squid": ["squid-0", "squid-1", "squid-2"],
    }


def test_two_squids_differ_in_nothing_but_their_number() -> None:
    monitor, _ = declared()
    first, second = (each.inputs for each in monitor.all(DEPLOYMENT))
    assert first != second
    assert str(first).replace("squid-0", "squid-1").replace(f"'{MEMBER}': '0'", f"'{MEMBER}': '1'") == str(second)


def test_the_old_squid_answers_until_the_new_one_does() -> None:
    monitor, _ = declared()
    for deployment in monitor.all(DEPLOYMENT):
        assert deployment.inputs["spec"]["replicas"] == 1
        assert deployment.inputs["spec"]["strategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }
        assert pod(deployment.inputs)["spec"]["priorityClassName"] == "here-service"


def test_squid_judges_its_configuration_before_a_new_one_starts() -> None:
    monitor, _ = declared()
    for deployment in monitor.all(DEPLOYMENT):
        (check,) = pod(deployment.inputs)["spec"]["initContainers"]
        assert check["command"] == ["/usr/sbin/squid", "-k", "parse", "-f", CONFIGURATION]
        assert check["image"] == IMAGE
        # Its end would be waited for in vain for as long as the engine waits for anything.
        assert deployment.inputs["spec"]["progressDeadlineSeconds"] < 600


def test_squids_are_spread_over_zones_and_nodes_as_far_as_there_are_any() -> None:
    monitor, _ = declared()
    for deployment in monitor.all(DEPLOYMENT):
        away = pod(deployment.inputs)["spec"]["affinity"]["podAntiAffinity"]
        (kind,) = away
        assert kind == "preferredDuringSchedulingIgnoredDuringExecution"
        terms = [each["podAffinityTerm"] for each in away[kind]]
        assert [each["topologyKey"] for each in terms] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        for each in terms:
            assert each["labelSelector"]["matchLabels"] == labels.selector("here", "squid")


def test_a_squid_whose_node_is_lost_is_made_anew_elsewhere_after_half_a_minute() -> None:
    monitor, _ = declared()
    for deployment in monitor.all(DEPLOYMENT):
        assert {each["key"]: each["tolerationSeconds"] for each in pod(deployment.inputs)["spec"]["tolerations"]} == {
            "node.kubernetes.io/not-ready": 30,
            "node.kubernetes.io/unreachable": 30,
        }


def test_each_squid_tells_its_metrics_at_an_address_of_its_own() -> None:
    monitor, _ = declared()
    ports = {
        service.inputs["metadata"]["name"]: [port["port"] for port in service.inputs["spec"]["ports"]]
        for service in monitor.all(SERVICE)
    }
    assert ports == {"squid-0": [3128, 9301], "squid-1": [3128, 9301], "squid": [3128]}
    for deployment in monitor.all(DEPLOYMENT):
        named = {
            port["name"]: port["containerPort"]
            for container in pod(deployment.inputs)["spec"]["containers"]
            for port in container["ports"]
        }
        assert named == {"proxy": 3128, "metrics": 9301}


def test_only_one_squid_at_a_time_is_drained() -> None:
    monitor, _ = declared()
    budget = monitor.one("kubernetes:policy/v1:PodDisruptionBudget").inputs["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": labels.selector("here", "squid")}}


def test_a_changed_configuration_rolls_the_squids_and_an_unchanged_one_does_not() -> None:
    def mounted(**changes: Any) -> set[str]:
        monitor, _ = declared(**changes)
        names = {
            volume["configMap"]["name"]
            for each in monitor.all(DEPLOYMENT)
            for volume in pod(each.inputs)["spec"]["volumes"]
            if "configMap" in volume
        }
        assert names == {monitor.one(CONFIG_MAP).inputs["metadata"]["name"]}
        return names

    assert mounted() == mounted()
    assert not mounted() & mounted(destinations=["other.example.org"])


def test_a_configuration_that_is_there_never_changes_under_its_name() -> None:
    monitor, _ = declared()
    conf = monitor.one(CONFIG_MAP).inputs
    assert conf["immutable"] is True
    assert conf["metadata"]["name"].endswith(naming.checksum(conf["data"]["squid.conf"]))


def test_the_pods_run_as_the_user_who_may_not_be_left() -> None:
    monitor, _ = declared()
    for deployment in monitor.all(DEPLOYMENT):
        spec = pod(deployment.inputs)["spec"]
        assert spec["securityContext"]["runAsUser"] == UID
        assert spec["automountServiceAccountToken"] is False
        for each in (*spec["initContainers"], *spec["containers"]):
            assert each["securityContext"]["readOnlyRootFilesystem"] is True
        container = squid_of(spec)
        written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert written == {CACHE, STATE}


def test_the_disk_holds_the_cache_and_more() -> None:
    monitor, _ = declared(cache_mib=1000)
    volumes = pod(monitor.all(DEPLOYMENT)[0].inputs)["spec"]["volumes"]
    (cache,) = [volume for volume in volumes if volume["name"] == "cache"]
    assert cache["emptyDir"]["sizeLimit"] == "1200Mi"


def test_a_probe_asks_squid_itself_and_no_server_outside() -> None:
    monitor, _ = declared()
    container = squid_of(pod(monitor.all(DEPLOYMENT)[0].inputs)["spec"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        shell, _, script = container[probe]["exec"]["command"]
        assert shell == "/bin/bash"
        assert "/dev/tcp/127.0.0.1/3128" in script
        assert "/squid-internal-mgr/" in script


def test_a_squid_that_leaves_goes_on_answering_until_the_endpoints_know() -> None:
    monitor, _ = declared()
    spec = pod(monitor.all(DEPLOYMENT)[0].inputs)["spec"]
    container = squid_of(spec)
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    (shutdown,) = [int(words[1]) for words in directives(arguments()) if words[0] == "shutdown_lifetime"]
    assert spec["terminationGracePeriodSeconds"] > waits + shutdown


def test_the_text_that_squid_reads_is_the_one_that_is_mounted() -> None:
    monitor, _ = declared()
    assert monitor.one(CONFIG_MAP).inputs["data"] == {"squid.conf": configuration(arguments())}


def test_squid_denies_before_it_allows_and_ends_with_denying_all() -> None:
    access = [words[1:] for words in directives(arguments()) if words[0] == "http_access"]
    assert access[-1] == ["deny", "all"]
    allowed = [index for index, words in enumerate(access) if words[0] == "allow"]
    assert [access[index] for index in allowed] == [["allow", "manager", "localhost"], ["allow", "destinations"]]
    before = access[: allowed[-1]]
    for closed in ("!clients", "!reading", "!web", "!origin_ports", "to_localhost", "to_linklocal", "manager"):
        assert ["deny", closed] in before


@runs(deadline=None)
@given(
    st.lists(st.sampled_from([".cern.ch", "a.example.org", "b.example.org"]), min_size=1, unique=True),
    st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.0/24", "fc00::/7"]), min_size=1, unique=True),
    st.integers(64, 2**20),
    st.integers(96, 2**18),
)
def test_squid_is_told_what_the_arguments_say(
    destinations: list[str], clients: list[str], cache_mib: int, memory_mib: int
) -> None:
    told = directives(arguments(destinations=destinations, clients=clients, cache_mib=cache_mib, memory_mib=memory_mib))
    assert ["acl", "destinations", "dstdomain", "-n", *destinations] in told
    assert ["acl", "clients", "src", *clients] in told
    assert ["cache_dir", "aufs", CACHE, str(cache_mib), "16", "256"] in told
    (memory,) = [words for words in told if words[0] == "cache_mem"]
    assert memory == ["cache_mem", str(memory_mib // 2), "MB"]


def test_many_who_ask_for_one_object_cost_its_origin_one_fetch() -> None:
    assert ["collapsed_forwarding", "on"] in directives(arguments())


def test_two_sites_in_one_stack_do_not_collide() -> None:
    def both() -> None:
        Squids("here-squid", arguments())
        Squids("there-squid", arguments(site="there", namespace="there", priority="there-service"))

    monitor = deploy(both)
    tree.check(monitor)
    hosts = {tuple(each.outputs["endpoints"]) for each in monitor.all("atlas-sites:index:Squids") if each.outputs}
    assert len(hosts) == 2
