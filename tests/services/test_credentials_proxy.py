"""Proxies: what is made is accepted by OpenSSL and by our own reader, and nothing else is."""

import itertools
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import given, settings, strategies as st

from services.credentials import proxy
from services.credentials.inputs import SKEW, Host, Refused, read_host
from tests.services.certificates import DAY, HOUR, NOW, Wish, authority, certificate, key_pem

pytestmark = pytest.mark.fast


def host(key: str = "RSA", ends: timedelta = 30 * DAY) -> Host:
    return read_host(certificate(Wish(key=key, ends=NOW + ends)), key_pem(key), NOW)


def made(key: str = "RSA") -> bytes:
    return proxy.make(host(key), 96 * HOUR, NOW)


def blocks(pem: bytes) -> list[bytes]:
    """The parts of a file in PEM form."""
    ending = b"-----\n"
    parts = pem.split(b"-----BEGIN ")[1:]
    assert all(part.endswith(ending) for part in parts)
    return [b"-----BEGIN " + part for part in parts]


@pytest.mark.parametrize("key", ["RSA", "EC"])
def test_openssl_accepts_a_proxy_if_it_is_told_to_take_proxies(key: str, tmp_path: Path) -> None:
    mine, key_block, above = blocks(made(key))
    for name, pem in {"proxy": mine, "key": key_block, "host": above, "ca": authority()}.items():
        (tmp_path / name).write_bytes(pem)
    verify = ["openssl", "verify", "-attime", str(int(NOW.timestamp())), "-purpose", "sslclient"]
    files = ["-CAfile", "ca", "-untrusted", "host", "proxy"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)

    accepted = run(*verify, "-allow_proxy_certs", *files)
    assert accepted.returncode == 0, accepted.stderr
    refused = run(*verify, *files)
    assert "proxy certificates not allowed" in refused.stderr
    late = run("openssl", "verify", "-attime", str(int((NOW + 97 * HOUR).timestamp())), "-allow_proxy_certs", *files)
    assert "certificate has expired" in late.stderr
    text = run("openssl", "x509", "-noout", "-text", "-in", "proxy").stdout
    assert "Proxy Certificate Information: critical" in text
    assert "Policy Language: Inherit all" in text
    assert "Path Length Constraint: infinite" in text


@settings(deadline=None, max_examples=15)
@given(
    key=st.sampled_from(["RSA", "EC"]),
    hours=st.integers(min_value=1, max_value=24 * 14),
    left=st.integers(min_value=1, max_value=24 * 20),
)
def test_a_proxy_ends_with_its_issuer_if_not_earlier(key: str, hours: int, left: int) -> None:
    issuer = host(key, ends=left * HOUR)
    found = proxy.read(proxy.make(issuer, hours * HOUR, NOW), NOW)
    assert found.expires == NOW + min(hours, left) * HOUR
    assert found.certificate.not_valid_after_utc <= issuer.expires
    assert found.certificate.not_valid_before_utc == NOW - SKEW
    assert found.certificate.subject.rdns[:-1] == issuer.certificate.subject.rdns
    assert found.certificate.subject.public_bytes().count(issuer.certificate.subject.public_bytes()[4:]) == 1
    (name,) = found.certificate.subject.rdns[-1]
    assert (name.oid, name.value) == (NameOID.COMMON_NAME, str(found.certificate.serial_number))
    assert found.issuer == issuer.certificate


def test_a_proxy_has_a_key_of_its_own_beside_its_certificate() -> None:
    first, second = made(), made()
    keys = [load_pem_private_key(blocks(pem)[1], password=None) for pem in (first, second)]
    public = [key.public_key() for key in (*keys, host().key)]
    assert all(isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048 for key in public)
    assert all(one != other for one, other in itertools.combinations(public, 2))
    certificates = [proxy.read(pem, NOW).certificate for pem in (first, second)]
    assert certificates[0].serial_number != certificates[1].serial_number
    assert certificates[0].subject != certificates[1].subject
    assert x509.load_pem_x509_certificates(first)[1:] == [host().certificate]


def test_what_came_with_the_host_certificate_is_passed_on() -> None:
    between = certificate(Wish(key="EC between", ends=NOW + 2 * DAY))
    pem = proxy.make(read_host(certificate() + between, key_pem(), NOW), 96 * HOUR, NOW)
    assert blocks(pem)[2:] == [certificate(), between]
    assert proxy.read(pem, NOW).expires == NOW + 2 * DAY


def test_a_reader_refuses_what_is_no_proxy_that_it_can_use() -> None:
    good = blocks(made())
    other = blocks(made())
    parts = {
        "empty": b"",
        "no key": good[0] + good[2],
        "no issuer": good[0] + good[1],
        "another's key": good[0] + other[1] + good[2],
        "another issuer of the same name": good[0] + good[1] + certificate(Wish(key="RSA other")),
        "the host certificate itself": good[2] + key_pem() + authority(),
        "truncated": b"".join(good)[:-30],
        "two keys": good[0] + good[1] + other[1] + good[2],
    }
    for name, pem in parts.items():
        if name == "two keys":
            proxy.read(pem, NOW)  # the first counts, as it does for OpenSSL
            continue
        with pytest.raises(Refused) as refused:
            proxy.read(pem, NOW)
        assert refused.value.problem.reason == "ProxyBroken", name


@pytest.mark.parametrize(
    ("after", "good"),
    [
        (-2 * SKEW, True),  # a reader whose clock is late, and its margin
        (-2 * SKEW - HOUR, False),
        (timedelta(0), True),
        (95 * HOUR, True),
        (96 * HOUR - SKEW, False),
        (200 * HOUR, False),
    ],
)
def test_a_reader_minds_the_time(after: timedelta, good: bool) -> None:  # noqa: FBT001  one of a table
    pem = made()
    if good:
        assert proxy.read(pem, NOW + after).expires == NOW + 96 * HOUR
    else:
        with pytest.raises(Refused, match="proxy: it is good from 2030-01-01 11:55 UTC to 2030-01-05 12:00 UTC only"):
            proxy.read(pem, NOW + after)


MADE = made()


# A letter of the serial number: today's library warns of it before the signature refuses it, a later one refuses it.
@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_proxy_with_any_letter_changed_is_refused_or_the_same(data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(MADE) - 1))
    letter = data.draw(st.sampled_from(b"AZaz09+/\n-"))
    changed = MADE[:position] + bytes([letter]) + MADE[position + 1 :]
    try:
        found = proxy.read(changed, NOW)
    except Refused:
        return
    # What the signature does not cover is not the reader's to judge: the end of the issuer's own chain, line breaks.
    assert found.certificate == proxy.read(MADE, NOW).certificate
