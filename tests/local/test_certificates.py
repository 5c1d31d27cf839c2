"""The throw-away certificates of the dev site and its pool."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from local import certificates
from local.certificates import POOL, SITE, Host
from local.refusal import Refusal

pytestmark = pytest.mark.fast

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOSTS = pytest.mark.parametrize("host", [SITE, POOL], ids=lambda host: host.name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Once for all: keys of this kind take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        certificates.ensure(NOW)
        return contents()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: dict[str, bytes]) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    certificates.directory().mkdir(parents=True)
    for name, content in made.items():
        (certificates.directory() / name).write_bytes(content)
        (certificates.directory() / name).chmod(0o600)
    return certificates.directory()


def contents() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in certificates.directory().iterdir()}


def certificate(host: Host) -> x509.Certificate:
    return x509.load_pem_x509_certificate(certificates.certificate_file(host).read_bytes())


def fits(host: Host) -> bool:
    key = load_pem_private_key(certificates.key_file(host).read_bytes(), password=None)
    return certificate(host).public_key() == key.public_key()


def test_the_files_have_the_names_that_the_talks_command_uploads(directory: Path) -> None:
    assert {file.name for file in directory.iterdir()} == {
        "ca.pem", "ca-key.pem", "hostcert.pem", "hostkey.pem", "poolcert.pem", "poolkey.pem",
    }  # fmt: skip


def test_what_was_made_for_the_site_is_told_from_a_users_own() -> None:
    assert certificates.is_throw_away(certificates.certificate_file(SITE).read_bytes())
    assert not certificates.is_throw_away(certificates.certificate_file(POOL).read_bytes())
    assert not certificates.is_throw_away(b"nonsense")


@HOSTS
def test_a_host_is_vouched_for_by_the_authority_under_its_name_and_has_its_key(host: Host) -> None:
    authority = x509.load_pem_x509_certificate(certificates.authority_file().read_bytes())
    certificate(host).verify_directly_issued_by(authority)
    names = certificate(host).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [host.user]
    assert fits(host)


def test_the_pool_is_named_as_startds_address_it() -> None:
    assert POOL.hosts == ("cm.pool.svc.cluster.local",)


@HOSTS
def test_a_distinguished_name_is_told_as_openssl_does(host: Host) -> None:
    parts = [part.rfc4514_string() for part in certificate(host).subject]
    assert certificates.distinguished_name(host) == "".join(f"/{part}" for part in parts)


def test_nobody_else_can_read_any_of_them(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()
    certificates.ensure(NOW)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}


@pytest.mark.parametrize(("days", "renewed"), [(0, False), (191, False), (193, True), (400, True)])
def test_hosts_are_renewed_in_their_last_week_and_the_authority_stays(days: int, renewed: bool) -> None:  # noqa: FBT001
    before, later = contents(), NOW + timedelta(days=days)
    certificates.ensure(later)
    changed = {name for name, content in contents().items() if content != before[name]}
    assert changed == ({"hostcert.pem", "hostkey.pem", "poolcert.pem", "poolkey.pem"} if renewed else set())
    assert all(certificate(host).not_valid_after_utc - later > timedelta(days=7) for host in (SITE, POOL))


@pytest.mark.parametrize(
    ("file", "left"),
    [("hostkey.pem", "poolkey.pem"), ("hostkey.pem", None), ("hostcert.pem", "poolcert.pem"), ("hostcert.pem", None)],
)
def test_a_certificate_without_its_key_is_made_anew_with_it(directory: Path, file: str, left: str | None) -> None:
    before = contents()
    (directory / file).write_bytes(before[left] if left else before[file][:200])
    certificates.ensure(NOW)
    assert fits(SITE)
    assert contents()["poolcert.pem"] == before["poolcert.pem"]


def test_with_another_authority_both_are_made_anew(directory: Path) -> None:
    before = contents()
    (directory / "ca.pem").unlink()
    certificates.ensure(NOW)
    authority = x509.load_pem_x509_certificate(certificates.authority_file().read_bytes())
    for host in (SITE, POOL):
        assert contents()[f"{host.name}cert.pem"] != before[f"{host.name}cert.pem"]
        certificate(host).verify_directly_issued_by(authority)


def test_an_authority_that_cannot_be_read_is_refused_with_the_remedy(directory: Path) -> None:
    (directory / "ca.pem").write_text("nonsense")
    with pytest.raises(Refusal, match=r"ca\.pem: no use as an authority .*`make down`"):
        certificates.ensure(NOW)
