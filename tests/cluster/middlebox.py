"""A middlebox, as clouds have one between nodes and the world.

It translates addresses, forgets a connection over which nothing has come for a while, and says nothing of it: what
comes over a forgotten connection is dropped, as by Azure's and Google's NAT.
"""

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from local.node.layout import BRIDGE, NODE_ADDRESS, PODS
from tests.cluster.network import Network, run
from tests.cluster.stage import Json

DEVICE = "middle0"  # of a pod behind it
UPLINK = "middlebox0"
UPLINK_ADDRESS = PODS[5]  # on the pods' bridge, of those that no pod gets
BEYOND = "198.51.100.9"  # of this machine, as long as the middlebox stands; a pod has another way to its node's own
RULES = f"""
table ip middlebox {{
    chain forgotten {{ type filter hook prerouting priority mangle; ct state invalid drop; }}
    chain translated {{ type nat hook postrouting priority srcnat; oifname "{UPLINK}" masquerade; }}
}}
"""


def behind(template: Json) -> None:
    """Has a startd wait until the middlebox is its way out."""
    first = template["spec"]["initContainers"]
    wait = f"until grep -q '^{DEVICE}.00000000' /proc/net/route; do sleep 0.2; done"
    first.insert(0, {**first[0], "name": "middlebox", "command": ["sh", "-c", wait], "args": []})


@dataclass(frozen=True)
class Middlebox:
    """The namespace in which it stands."""

    network: Network
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def take(self, pod: Network) -> None:
        """Becomes the way of a pod that waits for it, to all but the node, whose kubelet looks after the pod."""
        number = next(self._numbers)
        ours, its = (f"192.0.2.{4 * number + host}" for host in (1, 2))
        port = f"pod{number}"
        run(
            "ip", "link", "add", DEVICE, "netns", str(pod.pid),
            "type", "veth", "peer", "name", port, "netns", str(self.network.pid),
        )  # fmt: skip
        for network, device, address in ((self.network, port, ours), (pod, DEVICE, its)):
            network.run("ip", "address", "add", f"{address}/30", "dev", device)
            network.run("ip", "link", "set", device, "up")
        pod.run("ip", "route", "add", str(NODE_ADDRESS), "dev", "eth0")
        pod.run("ip", "route", "delete", str(PODS), "dev", "eth0")
        pod.run("ip", "route", "replace", "default", "via", ours)


@contextmanager
def opened(forgets_seconds: int) -> Iterator[Middlebox]:
    """A middlebox that forgets a connection which has been idle for so long; it goes with its devices."""
    sysctls = {
        "net/ipv4/ip_forward": 1,
        "net/netfilter/nf_conntrack_tcp_timeout_established": forgets_seconds,
        # Else whatever comes of a forgotten connection makes it known again.
        "net/netfilter/nf_conntrack_tcp_loose": 0,
    }
    words = ["unshare", "--net", "sh", "-c", "echo ready; exec sleep infinity"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            network = Network(process.pid)
            run("ip", "link", "add", UPLINK, "netns", str(process.pid), "type", "veth", "peer", "name", UPLINK)
            run("ip", "link", "set", UPLINK, "master", BRIDGE, "up")
            run("ip", "address", "add", f"{BEYOND}/32", "dev", UPLINK)
            network.run("ip", "address", "add", f"{UPLINK_ADDRESS}/{PODS.prefixlen}", "dev", UPLINK)
            network.run("ip", "link", "set", UPLINK, "up")
            network.run("ip", "route", "add", "default", "via", str(NODE_ADDRESS))
            network.run("nft", "-f", "-", stdin=RULES)
            for name, value in sysctls.items():
                network.run("sh", "-c", f"echo {value} > /proc/sys/{name}")
            yield Middlebox(network)
        finally:
            process.kill()
