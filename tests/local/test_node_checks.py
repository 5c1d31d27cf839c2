"""What is looked at before a node is started."""

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from local.node import checks
from local.node.checks import Facts, Listener

pytestmark = pytest.mark.fast

GOOD = Facts(
    user=0,
    capabilities=2**41 - 1 - 2**24,  # root in a container that lacks CAP_SYS_RESOURCE
    file_systems=frozenset({"ext4", "overlay", "fuse"}),
    fuse_device=True,
    bridge_filter=True,
    packet_queue=True,
    memory=8 * 2**30,
    disk=50 * 2**30,
    state_file_system="ext4",
    routes=(IPv4Network("192.168.1.0/24"), IPv4Network("172.17.0.0/16")),
    busy_ports=(),
    foreign_owner=None,
    foreign_bridges=(),
    foreign_kubelet=False,
    foreign_tables=(),
    foreign_cvmfs=False,
)


def test_a_machine_on_which_all_is_well_meets_no_objection() -> None:
    assert list(checks.objections(GOOD)) == []


@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        ({"user": 1000}, "needs root", "sudo make up"),
        ({"capabilities": GOOD.capabilities - 2**21}, "CAP_SYS_ADMIN", "privileged"),
        ({"file_systems": frozenset({"fuse"})}, "no overlay file system", "modprobe overlay"),
        ({"file_systems": frozenset({"overlay"})}, "no fuse file system", "modprobe fuse"),
        ({"fuse_device": False}, "/dev/fuse", "modprobe fuse"),
        ({"bridge_filter": False}, "bridged packets", "modprobe br_netfilter"),
        ({"packet_queue": False}, "about packets", "modprobe nfnetlink_queue"),
        ({"foreign_owner": "/home/eve/node"}, "/home/eve/node", "stop it first"),
        ({"foreign_bridges": ("atlas0",)}, "atlas0 is not ours", "ip link delete atlas0"),
        ({"foreign_kubelet": True}, "/var/lib/kubelet", "make up KUBECONFIG"),
        ({"foreign_tables": ("ip kube-proxy",)}, "table ip kube-proxy", "make up KUBECONFIG"),
        ({"foreign_cvmfs": True}, "/var/cvmfs", "unmount it"),
        ({"routes": (IPv4Network("10.0.0.0/8"),)}, "10.213.0.0/24", "remove the route to 10.0.0.0/8"),
        ({"routes": (IPv4Network("10.213.1.128/25"),)}, "10.213.1.0/24", "remove the route to 10.213.1.128/25"),
        ({"routes": (IPv4Network("10.213.2.0/28"),)}, "10.213.2.0/24", "remove the route to 10.213.2.0/28"),
        ({"busy_ports": ((6443, "nginx (process 7)"),)}, "port 6443", "nginx (process 7)"),
        ({"memory": 500 * 2**20}, "500 MiB free", "end something"),
        ({"state_file_system": "nfs4"}, "on nfs4", "local disk"),
        ({"disk": 100 * 2**20}, "100 MiB free", "XDG_STATE_HOME"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence_with_the_remedy(change: dict[str, Any], what: str, remedy: str) -> None:
    objections = list(checks.objections(replace(GOOD, **change)))
    assert objections
    assert what in objections[0]
    assert remedy in objections[0]
    assert "\n" not in objections[0]


def test_listening_sockets_are_read_from_the_kernels_table() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100D50A:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 x 100\n"
        "   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 778 1 x 100\n"
    )
    assert checks.listeners(table) == [Listener(address="10.213.0.1", port=6443, inode=777)]


def test_an_ipv4_address_in_the_ipv6_table_is_told_as_what_it_is() -> None:
    def line(address: str) -> str:
        return f"0: {address}:192B 0:0 0A 0:0 00:0 0 0 0 9 1 x 100\n"

    table = "header\n" + line("0000000000000000FFFF00000100D50A") + line("0" * 32)
    assert [listener.address for listener in checks.listeners(table)] == ["10.213.0.1", "::"]


def test_effective_capabilities_and_free_memory_are_read_from_the_kernels_files() -> None:
    assert checks.capabilities("Name:\tx\nCapPrm:\t00\nCapEff:\t000001fffeffffff\n") == 0x1FFFEFFFFFF
    assert checks.available_memory("MemTotal: 100 kB\nMemAvailable:     42 kB\n") == 42 * 1024


def test_the_default_route_and_our_own_bridges_are_nobody_elses_subnet() -> None:
    routes = (
        '[{"dst":"default","dev":"eth0"},{"dst":"10.213.0.0/24","dev":"atlas0"},{"dst":"10.1.2.3","dev":"tun0"},'
        '{"dst":"192.168.1.0/24","dev":"eth0"},{"dst":"10.213.2.0/24","dev":"atlas1"}]'
    )
    assert checks.foreign_routes(routes) == (IPv4Network("10.1.2.3/32"), IPv4Network("192.168.1.0/24"))
