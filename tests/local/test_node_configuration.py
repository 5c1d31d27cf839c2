"""What the node's components are told."""

import json
import tomllib
from pathlib import Path

import pytest

from local.node import checks, configuration
from local.node.layout import (
    API_SERVICE_ADDRESS,
    DNS_SERVICE_ADDRESS,
    FIRST_POD_ADDRESS,
    NODE_ADDRESS,
    PODS,
    SERVICES,
    Layout,
)
from local.node.processes import Daemon

pytestmark = pytest.mark.fast

LAYOUT = Layout(root=Path("/state/node"), run=Path("/run/ours"))
FILES = configuration.files(LAYOUT, "localhost/pause:1")


def daemon(name: str) -> Daemon:
    return next(each for each in configuration.daemons(LAYOUT, Path("/tools")) if each.name == name)


def test_pods_and_services_have_private_subnets_of_their_own() -> None:
    assert not PODS.overlaps(SERVICES)
    assert PODS.is_private
    assert SERVICES.is_private


def test_fixed_addresses_lie_in_their_subnets_and_no_pod_gets_one_of_them() -> None:
    assert NODE_ADDRESS in PODS
    assert NODE_ADDRESS < FIRST_POD_ADDRESS
    assert {API_SERVICE_ADDRESS, DNS_SERVICE_ADDRESS} < set(SERVICES.hosts())


def test_there_are_addresses_for_as_many_pods_as_the_kubelet_takes() -> None:
    available = int(PODS.broadcast_address) - int(FIRST_POD_ADDRESS)
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
    read = {file for each in configuration.daemons(LAYOUT, Path("/tools")) for file in each.reads}
    assert {file for file in FILES if file.parent == LAYOUT.configuration} <= read


def test_the_ports_that_are_looked_at_before_a_start_are_those_of_components() -> None:
    assert set(checks.PORTS.values()) <= {each.name for each in configuration.daemons(LAYOUT, Path("/tools"))}
