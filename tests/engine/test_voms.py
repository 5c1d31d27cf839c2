"""VOMS proxies by the distribution's own programs, against a stand-in for the server: what is made, and what is not."""

import asyncio
import base64
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local import packages
from local.progress import Progress
from services.credentials import proxy, voms
from services.credentials.main import Refresher, options
from services.kube import Json
from services.times import timestamp
from tests.engine.voms_server import ORGANISATION, Server
from tests.services.stand_in import NAMESPACE, Server as ApiServer, StandInApi

pytestmark = pytest.mark.engine

SECRET = f"/api/v1/namespaces/{NAMESPACE}/secrets/proxy"
PRODUCTION = "/atlas/Role=production"
HOUR = timedelta(hours=1)
ENVIRONMENT = {
    "NAMESPACE": NAMESPACE,
    "HOST_CERTIFICATE": "default/atlas-cert",
    "VOMS": f"{ORGANISATION}:{PRODUCTION}",
    "VOMS_TRUST": "default/voms",
}
PROGRAMS = {"/usr/bin/voms-proxy-init": "voms-clients", "/usr/bin/openssl": "openssl"}


def openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, capture_output=True, check=True, timeout=60)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a VOMS server's certificate, a robot's, and one of an authority that nobody knows."""
    directory = tmp_path_factory.mktemp("voms")
    packages.ensure(PROGRAMS, purpose="VOMS", log=directory / "apt.log", progress=Progress(total=0))
    (directory / "extensions").write_text(
        "keyUsage=critical,digitalSignature,keyEncipherment\nbasicConstraints=critical,CA:FALSE\n"
        "subjectAltName=DNS:localhost\n"
    )
    for name in ("ca", "other"):
        openssl(
            directory,
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
            *("-subj", f"/DC=example/CN={name}", "-days", "30", "-addext", "keyUsage=critical,keyCertSign"),
        )
    for name, common in (("voms", "localhost"), ("host", "Robot: site")):
        openssl(
            directory,
            *("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            *("-subj", f"/DC=example/O=Grid/CN={common}"),
        )
        openssl(
            directory,
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "20", "-out", f"{name}.pem", "-extfile", "extensions"),
        )
        (directory / f"{name}.key").chmod(0o400)
    openssl(directory, "rehash", ".")
    return directory


class Place:
    """A refresher, its cluster and its VOMS server; the clock is the real one."""

    def __init__(self, certificates: Path) -> None:
        self.voms = Server(certificates)
        self.directory = certificates
        self.cluster = ApiServer(now=datetime.now(UTC).timestamp())
        self.put("secrets/atlas-cert", {"hostcert": self.read("host.pem"), "hostkey": self.read("host.key")})
        self.trust()
        self.refresher = Refresher(StandInApi(self.cluster), options(ENVIRONMENT))

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def put(self, path: str, data: dict[str, bytes]) -> None:
        kind, name = path.split("/")
        whole = f"/api/v1/namespaces/default/{kind}/{name}"
        self.cluster.objects.pop(whole, None)
        secret = kind == "secrets"
        encoded = {key: base64.b64encode(value).decode() if secret else value.decode() for key, value in data.items()}
        self.cluster.create(
            whole.rpartition("/")[0], {"metadata": {"name": name, "namespace": "default"}, "data": encoded}
        )

    def trust(self, **more: bytes) -> None:
        server = "/DC=example/O=Grid/CN=localhost"
        port = self.voms.port
        line = f'"{ORGANISATION}" "localhost" "{port}" "{server}" "{ORGANISATION}" "24"\n'
        signer = f"{server}\n/DC=example/CN=ca\n".encode()
        data = {"vomses": line.encode(), "ca.pem": self.read("ca.pem"), "localhost.lsc": signer}
        changes = {key.replace("_", "."): value for key, value in more.items()}
        self.put("configmaps/voms", {**data, **changes})

    def turn(self) -> float:
        return asyncio.run(self.refresher.turn())

    def later(self) -> None:
        """As it is when the proxy has become old enough to be replaced."""
        old = (datetime.now(UTC) - 7 * HOUR).timestamp()
        self.secret["metadata"]["annotations"]["atlas-sites.io/renewed"] = timestamp(old)

    @property
    def secret(self) -> Json:
        return self.cluster.objects[SECRET]

    @property
    def proxy(self) -> bytes:
        return base64.b64decode(self.secret.get("data", {}).get("proxy", ""))

    @property
    def events(self) -> dict[str, str]:
        found = self.cluster.every(f"/api/v1/namespaces/{NAMESPACE}/events")
        return {event["reason"]: event["message"] for event in found if event["type"] == "Warning"}


@pytest.fixture
def place(certificates: Path) -> Iterator[Place]:
    """Whose VOMS server is stopped at the end."""
    made = Place(certificates)
    yield made
    made.voms.stop()


def test_a_robots_proxy_bears_what_the_server_signed_and_the_grids_own_program_says_so(
    place: Place, tmp_path: Path
) -> None:
    assert place.turn() == 60
    assert place.refresher.ready
    assert place.voms.asked == [96 * 3600]
    assert place.events == {}
    file = tmp_path / "proxy"
    file.write_bytes(place.proxy)
    file.chmod(0o600)
    told = subprocess.run(
        ["voms-proxy-info", "-file", str(file), "-all", "-acexists", ORGANISATION],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "X509_CERT_DIR": str(place.directory)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert re.search(r"^type +: RFC compliant proxy$", told, re.MULTILINE)
    assert re.search(r"^attribute : /atlas/Role=production/", told, re.MULTILINE)
    # 96:00:00 is said within the second in which it was made.
    assert re.search(r"^timeleft +: (95:|96:00:00$)", told, re.MULTILINE)
    assert set(place.refresher.metrics.ends) == {"proxy", "attributes", "certificate"}
    place.turn()
    assert place.voms.asked == [96 * 3600], "what is good is left alone"


def test_a_proxy_is_renewed_and_the_new_one_ends_later(place: Place) -> None:
    place.voms.hours = 90
    place.turn()
    before = proxy.read(place.proxy, datetime.now(UTC))
    place.voms.hours = 96
    place.later()
    place.turn()
    after = proxy.read(place.proxy, datetime.now(UTC))
    assert after.expires > before.expires + 5 * HOUR


@pytest.mark.parametrize(("granted", "also"), [(90, set()), (79, {"ProxyEndsSoon"}), (24, {"ProxyBelowFloor"})])
def test_a_server_that_grants_less_is_named_and_the_shortest_lifetime_counts(
    place: Place, granted: int, also: set[str]
) -> None:
    place.voms.hours = granted
    place.turn()
    for _ in range(2):  # it is a problem for as long as the proxy is there, not just when it was made
        assert set(place.events) == {"VomsGrantsLess"} | also
        left = proxy.read(place.proxy, datetime.now(UTC)).expires - datetime.now(UTC)
        assert (granted - 1) * HOUR < left <= granted * HOUR
        place.turn()


# What goes wrong → the reason that is told, and how its sentence begins.
FAULTS = {
    "nobody listens": ("VomsUnreachable", "VOMS of atlas: no server in vomses answers"),
    "it refuses": ("VomsRefused", "VOMS of atlas: the server grants nothing"),
    "it leaves out the role": ("VomsAttributeMissing", "VOMS of atlas: the server left out /atlas/Role=production;"),
    "it grants less than is left": ("VomsGrantsLess", "proxy: its VOMS attributes end sooner than the 96 hours"),
    "another signed": ("VomsUnverified", "VOMS of atlas: what the server granted does not bear its signature"),
    "its list has another organisation": ("VomsUnreadable", "ConfigMap default/voms: vomses: it names no server of"),
    "whom to trust is gone": ("VomsMissing", "ConfigMap default/voms: it is missing; make it with"),
    "the authority is unknown": (
        "VomsUnverified",
        "VOMS of atlas: what the server granted does not bear its signature",
    ),
}


def spoil(place: Place, fault: str) -> None:
    match fault:
        case "nobody listens":
            place.voms.stop()
        case "it refuses":
            place.voms.mood = "refuses"
        case "it leaves out the role":
            place.voms.attributes = ("/atlas",)
        case "it grants less than is left":
            place.voms.hours = 24
        case "another signed":
            place.trust(localhost_lsc=b"/DC=example/CN=somebody\n/DC=example/CN=ca\n")
        case "its list has another organisation":
            place.trust(vomses=b'"cms" "localhost" "1" "/DC=example" "cms" "24"\n')
        case "whom to trust is gone":
            del place.cluster.objects["/api/v1/namespaces/default/configmaps/voms"]
        case "the authority is unknown":
            place.trust(ca_pem=place.read("other.pem"))


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_wrong_with_voms_is_named_and_the_last_good_proxy_stays(place: Place, fault: str) -> None:
    place.turn()
    before = place.proxy
    assert before
    spoil(place, fault)
    place.later()
    pause = place.turn()
    reason, beginning = FAULTS[fault]
    assert set(place.events) == {reason}
    assert place.events[reason].startswith(beginning)
    assert place.proxy == before
    assert place.refresher.ready
    assert pause <= 2, "it is tried again soon, and then less and less"


def test_without_a_proxy_one_that_the_server_does_not_sign_is_not_made(place: Place) -> None:
    place.voms.mood = "refuses"
    place.turn()
    assert set(place.events) == {"VomsRefused"}
    assert place.proxy == b""
    assert not place.refresher.ready


def test_once_no_attributes_are_wanted_the_next_proxy_has_none(place: Place) -> None:
    place.turn()
    assert proxy.read(place.proxy, datetime.now(UTC)).membership is not None
    plain = {key: value for key, value in ENVIRONMENT.items() if not key.startswith("VOMS")}
    place.refresher = Refresher(StandInApi(place.cluster), options(plain))
    place.turn()
    assert proxy.read(place.proxy, datetime.now(UTC)).membership is None
    assert "atlas-sites.io/attributes" not in place.secret["metadata"]["annotations"]


def test_no_key_stays_on_disk(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place.turn()
    voms.membership.cache_clear()
    proxy.read(place.proxy, datetime.now(UTC))
    assert list(tmp_path.iterdir()) == []
