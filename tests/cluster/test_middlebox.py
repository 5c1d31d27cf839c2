"""An idle job behind a middlebox that forgets idle connections: with a keepalive below its patience, and without.

All times are a twelfth of what Azure's NAT gateway and a site say.
"""

import socketserver
import threading
from collections.abc import Iterator

import pytest

from components.startds import sysctls
from tests.cluster import middlebox
from tests.cluster.middlebox import Middlebox
from tests.cluster.network import of_pod
from tests.cluster.stage import HELD, LOST, Job, Json, Stage, Startds

pytestmark = pytest.mark.cluster

FORGETS_SECONDS = 20
KEEPALIVE_SECONDS = 15
NEVER_SECONDS = 7200
# Longer than the pool itself takes to miss a startd, so that no job is lost for another reason.
LEASE = "job_lease_duration = 120"
# How the pool gives a connection up after its own keepalive of 180 s: else it would ask nine times, every 75 s.
POOL = {"tcp_keepalive_intvl": 6, "tcp_keepalive_probes": 2}
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
def box() -> Iterator[Middlebox]:
    with middlebox.opened(FORGETS_SECONDS) as box:
        yield box


@pytest.fixture
def server(box: Middlebox) -> Iterator[tuple[str, int]]:
    """A server for the payloads, beyond the middlebox."""
    del box
    with socketserver.ThreadingTCPServer((middlebox.BEYOND, 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield (middlebox.BEYOND, int(server.server_address[1]))
        server.shutdown()


@pytest.fixture
def impatient(stage: Stage) -> Iterator[None]:
    """The pool gives connections up soon, so that what is lost is told of soon."""
    path = "jsonpath={.items[0].metadata.uid}"
    pool = of_pod(stage.cluster.kubectl("get", "pods", "-n", "pool", "-l", "app.kubernetes.io/name=cm", "-o", path))
    before = {name: pool.run("cat", f"/proc/sys/net/ipv4/{name}").strip() for name in POOL}
    for values in (POOL, before):
        for name, value in values.items():
            pool.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}")
        if values is POOL:
            yield


def idle(stage: Stage, box: Middlebox, name: str, keepalive: int, payload: str) -> tuple[Startds, Job]:
    """A startd behind the middlebox, and its idle job."""

    def change(template: Json) -> None:
        middlebox.behind(template)
        template["spec"]["securityContext"]["sysctls"] = sysctls(keepalive)

    startds = stage.startds(name, env={"KEEPALIVE_SECONDS": str(keepalive)}, change=change)
    job = startds.submit(payload, LEASE)
    box.take(of_pod(startds.waits(1)["metadata"]["uid"]))
    return startds, job


def test_an_idle_job_and_its_payloads_connection_outlive_a_middlebox_by_the_keepalive_alone(
    stage: Stage, box: Middlebox, server: tuple[str, int], impatient: None
) -> None:
    del impatient
    startds, kept = idle(stage, box, "kept", KEEPALIVE_SECONDS, PAYLOAD % (server,))
    others, lost = idle(stage, box, "lost", NEVER_SECONDS, PAYLOAD % (server,))
    kept.runs()
    lost.runs()
    startds.made(1, HEARD)
    others.made(1, HEARD)
    assert (startds.inside(1) / HEARD).read_bytes() == b"."
    assert (others.inside(1) / HEARD).read_bytes() == b""
    lost.is_lost()
    startds.let_go(1)
    assert kept.ends() == 0
    assert kept.starts == 1
    assert not {event for event, _ in kept.events} & set(LOST)
