"""What the node's components are told."""

import itertools
import json
import tomllib
from pathlib import Path

import pytest

from local.node import checks, configuration, second
from local.node.layout import (
    API_SERVICE_ADDRESS,
    DNS_SERVICE_ADDRESS,
    NODE_ADDRESS,
    PODS,
    SECOND_PODS,
    SERVICES,
    Layout,
)
from local.node.processes import Daemon, Process

pytestmark = pytest.mark.fast

LAYOUT = Layout(root=Path("/state/node"), run=Path("/run/ours"))
FILES = {**configuration.files(LAYOUT, "localhost/pause:1"), **configuration.control_plane_files(LAYOUT)}
DAEMONS = (
    *configuration.control_plane(LAYOUT, Path("/tools")),
    *configuration.components(LAYOUT, Path("/tools")),
)
BOTH = pytest.mark.parametrize("layout", [LAYOUT, LAYOUT.second], ids=["first", "second"])


def daemon(name: str) -> Daemon:
    return next(each for each in DAEMONS if each.name == name)


def test_pods_of_each_node_and_services_have_private_subnets_of_their_own() -> None:
    subnets = (PODS, SERVICES, SECOND_PODS)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(subnets, 2))
    assert all(subnet.is_private for subnet in subnets)


@BOTH
def test_fixed_addresses_lie_in_their_subnets_and_no_pod_gets_one_of_them(layout: Layout) -> None:
    assert layout.address in layout.pods
    assert layout.address < layout.first_pod_address
    assert {API_SERVICE_ADDRESS, DNS_SERVICE_ADDRESS} < set(SERVICES.hosts())


def test_the_first_nodes_address_is_the_api_servers() -> None:
    assert LAYOUT.address == NODE_ADDRESS


def test_there_are_addresses_for_as_many_pods_as_the_kubelet_takes() -> None:
    available = int(PODS.broadcast_address) - int(LAYOUT.first_pod_address)
    assert available >= json.loads(FILES[LAYOUT.configuration / "kubelet.json"])["maxPods"]


def test_containerd_keeps_all_that_it_can_in_places_of_ours() -> None:
    told = tomllib.loads(FILES[LAYOUT.configuration / "containerd.toml"])
    cri = told["plugins"]["io.containerd.grpc.v1.cri"]
    runc = cri["containerd"]["runtimes"]["runc"]["options"]
    places = [told["root"], told["state"], told["grpc"]["address"], cri["cni"]["conf_dir"], runc["Root"]]
    assert all(Path(place).is_relative_to("/state/node") or Path(place).is_relative_to("/run/ours") for place in places)
    assert cri["netns_mounts_under_state_dir"] is True


def test_no_score_is_asked_for_that_takes_a_capability_which_containers_lack() -> None:
    containerd = tomllib.loads(FILES[LAYOUT.configuration / "containerd.toml"])
    assert containerd["plugins"]["io.containerd.grpc.v1.cri"]["restrict_oom_score_adj"] is True
    for name in ("kubelet.json", "proxy.json"):
        assert json.loads(FILES[LAYOUT.configuration / name])["oomScoreAdj"] == 0


def test_no_image_is_ever_collected() -> None:
    assert json.loads(FILES[LAYOUT.configuration / "kubelet.json"])["imageGCHighThresholdPercent"] == 100


def test_the_pod_network_switches_no_forwarding_on_for_the_whole_machine() -> None:
    plugin = json.loads(FILES[LAYOUT.cni / "10-atlas-sites.conflist"])["plugins"][0]
    assert plugin["isGateway"] is False
    assert plugin["ipMasq"] is False


def test_the_audit_log_never_holds_a_body_so_never_a_secret() -> None:
    policy = json.loads(FILES[LAYOUT.configuration / "audit.json"])
    assert {rule["level"] for rule in policy["rules"]} == {"None", "Metadata"}
    assert policy["rules"][-1] == {"level": "Metadata"}


def test_the_audit_log_is_bounded() -> None:
    words = daemon("apiserver").command
    assert {"--audit-log-maxsize=16", "--audit-log-maxbackup=2"} <= set(words)


def test_every_request_is_authenticated_and_authorized() -> None:
    assert {"--anonymous-auth=false", "--authorization-mode=Node,RBAC"} <= set(daemon("apiserver").command)
    kubelet = json.loads(FILES[LAYOUT.configuration / "kubelet.json"])
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["authorization"] == {"mode": "Webhook"}


def test_etcd_listens_on_no_port() -> None:
    listened = [word for word in daemon("etcd").command if word.startswith("--listen-")]
    assert listened
    assert all("=unix://" in word for word in listened)


def test_a_component_whose_configuration_changed_is_another_daemon(tmp_path: Path) -> None:
    file = tmp_path / "told"
    file.write_text("one")
    told = Daemon(name="some", command=("/bin/true",), reads=(file,))
    before = told.fingerprint()
    file.write_text("two")
    assert told.fingerprint() != before


def test_every_configuration_file_that_is_written_is_read_by_somebody() -> None:
    read = {file for each in DAEMONS for file in each.reads}
    assert {file for file in FILES if file.parent == LAYOUT.configuration} <= read


def test_the_ports_that_are_looked_at_before_a_start_are_those_of_components() -> None:
    assert set(checks.PORTS.values()) <= {each.name for each in DAEMONS}


def test_two_nodes_on_a_machine_share_no_file_socket_or_control_group() -> None:
    other = LAYOUT.second
    told = configuration.files(other, "localhost/pause:1")
    assert not set(told) & set(FILES)
    kubelet = json.loads(told[other.configuration / "kubelet.json"])
    assert kubelet["cgroupRoot"] == "/atlas-sites/second"
    assert kubelet["containerRuntimeEndpoint"] == "unix:///run/ours/second/containerd.sock"
    plugin = json.loads(told[other.cni / "10-atlas-sites.conflist"])["plugins"][0]
    assert plugin["ipam"]["ranges"] == [
        [{"subnet": "10.213.2.0/24", "rangeStart": "10.213.2.10", "gateway": "10.213.2.1"}]
    ]
    words = {word for each in configuration.components(other, Path("/tools")) for word in each.command}
    assert {"--hostname-override=atlas-local-2", "--node-ip=10.213.2.1", "--node=atlas-local-2"} <= words
    assert str(NODE_ADDRESS) not in "".join([*words, *told.values()])


def test_what_runs_on_a_machine_that_was_switched_on_again_is_another_daemon() -> None:
    one, other = (second.within(Process(pid=pid, started=1), daemon("kubelet")) for pid in (7, 8))
    assert one.command[-len(daemon("kubelet").command) :] == daemon("kubelet").command
    assert one.command != other.command
