"""An idle job behind a middlebox that forgets idle connections: with a keepalive below its patience, and without.

All times are a twelfth of what Azure's NAT gateway and a site say.
"""

import socketserver
import threading
from collections.abc import Iterator

import pytest

from local.node.layout import NODE_ADDRESS
from tests.cluster import middlebox
from tests.cluster.middlebox import Middlebox
from tests.cluster.stage import HELD, LOST, Job, Json, Stage, Startds

pytestmark = pytest.mark.cluster

FORGETS_SECONDS = 20
KEEPALIVE_SECONDS = 15
NEVER_SECONDS = 7200
# Longer than the pool itself takes to miss a startd, so that no job is lost for another reason.
LEASE = "job_lease_duration = 120"
HEARD = "tmp/heard"
# A payload with a connection of its own that says nothing for a while.
PAYLOAD = f"""\
python3 - <<'END'
import socket, time
with socket.create_connection(%s, 30) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    time.sleep({2 * FORGETS_SECONDS})
    server.settimeout({FORGETS_SECONDS})
    try:
        server.sendall(b".")
        heard = server.recv(1)
    except TimeoutError:
        heard = b""
with open("/{HEARD}.part", "wb") as file:
    file.write(heard)
END
mv /{HEARD}.part /{HEARD}
{HELD}
"""


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while said := self.request.recv(1):
            self.request.sendall(said)


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """A server for the payloads, beyond the middlebox."""
    with socketserver.ThreadingTCPServer((str(NODE_ADDRESS), 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield (str(NODE_ADDRESS), int(server.server_address[1]))
        server.shutdown()


@pytest.fixture
def box() -> Iterator[Middlebox]:
    with middlebox.opened(FORGETS_SECONDS) as box:
        yield box


def idle(stage: Stage, box: Middlebox, name: str, keepalive: int, payload: str) -> tuple[Startds, Job]:
    """A startd behind the middlebox, and its idle job."""

    def change(template: Json) -> None:
        middlebox.behind(template)
        template["spec"]["securityContext"]["sysctls"] = [
            {"name": "net.ipv4.tcp_keepalive_time", "value": str(keepalive)}
        ]

    startds = stage.startds(name, env={"KEEPALIVE_SECONDS": str(keepalive)}, change=change)
    job = startds.submit(payload, LEASE)
    startds.waits(1)
    box.take(startds.pod_name(1))
    return startds, job


def test_an_idle_job_and_its_payloads_connection_outlive_a_middlebox_by_the_keepalive_alone(
    stage: Stage, box: Middlebox, server: tuple[str, int]
) -> None:
    startds, kept = idle(stage, box, "kept", KEEPALIVE_SECONDS, PAYLOAD % (server,))
    others, lost = idle(stage, box, "lost", NEVER_SECONDS, PAYLOAD % (server,))
    startds.made(1, HEARD)
    others.made(1, HEARD)
    assert (startds.inside(1) / HEARD).read_bytes() == b"."
    assert (others.inside(1) / HEARD).read_bytes() == b""
    lost.is_lost()
    startds.let_go(1)
    assert kept.ends() == 0
    assert kept.starts == 1
    assert not {event for event, _ in kept.events} & set(LOST)
