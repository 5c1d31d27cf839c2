"""What the refresher is given: each mistake is one sentence with its remedy, and nothing makes it stumble."""

from datetime import datetime

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings, strategies as st

from services.credentials import proxy
from services.credentials.inputs import SKEW, Refused, check, read_authority, read_host, read_token
from tests.services.certificates import DAY, HOUR, NOW, Wish, authority, certificate, key_pem, token

pytestmark = pytest.mark.fast

# What is given as hostcert and hostkey, and how the sentences about it must begin.
MISTAKES: dict[str, tuple[bytes, bytes, list[str]]] = {
    "nothing": (b"", b"", ["hostcert: a certificate in PEM form", "hostkey: a private key in PEM form"]),
    "no certificate": (b"\x30\x82", key_pem(), ["hostcert: a certificate in PEM form is needed, and it is not one"]),
    "no key": (certificate(), b"?", ["hostkey: a private key in PEM form is needed, and it is not one"]),
    "a truncated certificate": (certificate()[:-200], key_pem(), ["hostcert: a certificate in PEM form"]),
    "a truncated key": (certificate(), key_pem()[:-200], ["hostkey: a private key in PEM form"]),
    "the two files swapped": (
        key_pem(),
        certificate(),
        [
            "hostcert: a certificate in PEM form is needed, and it holds a private key and no certificate",
            "hostkey: a private key in PEM form is needed, and it holds a certificate and no key",
        ],
    ),
    "an encrypted key": (certificate(), key_pem(passphrase=b"x"), ["hostkey: it is encrypted"]),
    "an encrypted key in the old form": (
        certificate(),
        key_pem(passphrase=b"x", form=PrivateFormat.TraditionalOpenSSL),
        ["hostkey: it is encrypted"],
    ),
    "another's key": (certificate(), key_pem("RSA other"), ["hostkey: it is not the key of the first certificate"]),
    "another kind of key": (certificate(), key_pem("EC"), ["hostkey: it is not the key of the first certificate"]),
    "a weak key": (certificate(Wish(key="RSA weak")), key_pem("RSA weak"), ["hostkey: it has 1024 bits"]),
    "expired": (certificate(Wish(ends=NOW - DAY)), key_pem(), ["hostcert: it ended at 2029-12-31 12:00 UTC"]),
    "about to expire": (certificate(Wish(ends=NOW + SKEW)), key_pem(), ["hostcert: it ended at"]),
    "not yet valid": (
        certificate(Wish(begins=NOW + HOUR)),
        key_pem(),
        ["hostcert: it begins only at 2030-01-01 13:00 UTC; is the clock here right?"],
    ),
    "expired, and another's key": (
        certificate(Wish(ends=NOW - HOUR)),
        key_pem("RSA other"),
        ["hostcert: it ended", "hostkey: it is not the key"],
    ),
    "an expired one behind it": (
        certificate() + certificate(Wish(ends=NOW - HOUR)),
        key_pem(),
        ["hostcert: one that follows the first ended"],
    ),
    "an authority's": (authority(), key_pem("EC authority"), ["hostcert: it is an authority's"]),
    "one that cannot sign": (certificate(Wish(signs=False)), key_pem(), ["hostcert: its key usage lacks"]),
    "one for servers alone": (
        certificate(Wish(purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))),
        key_pem(),
        ["hostcert: its extended key usage lacks clientAuth"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_in_a_host_certificate_is_told(mistake: str) -> None:
    certificate_pem, key, beginnings = MISTAKES[mistake]
    sentences = check(certificate_pem, key, NOW)
    assert len(sentences) == len(beginnings)
    for sentence, beginning in zip(sentences, beginnings, strict=True):
        assert sentence.startswith(beginning)
    with pytest.raises(Refused) as refused:
        read_host(certificate_pem, key, NOW)
    assert refused.value.problem.sentence == sentences[0]


def test_a_proxy_is_no_host_certificate() -> None:
    made = proxy.make(read_host(certificate(), key_pem(), NOW), HOUR, NOW)
    assert check(made, made, NOW) == ["hostcert: it is a proxy itself; give the certificate that it was made from"]


@pytest.mark.parametrize(
    ("certificate_pem", "key"),
    [
        (certificate(), key_pem()),
        (certificate(), key_pem(form=PrivateFormat.TraditionalOpenSSL)),
        (certificate(Wish(key="EC")), key_pem("EC")),
        (certificate(Wish(purposes=())), key_pem()),
        (certificate(Wish(begins=NOW + SKEW)), key_pem()),
        (b"Bag Attributes\n    friendlyName: host\n" + certificate() + authority(), b"\n" + key_pem() + b"\n"),
        (certificate() + key_pem(), certificate() + key_pem()),
    ],
)
def test_a_good_host_certificate_passes_in_each_form(certificate_pem: bytes, key: bytes) -> None:
    assert check(certificate_pem, key, NOW) == []


def test_a_chain_ends_with_the_first_of_its_members() -> None:
    chain = certificate(Wish(ends=NOW + 9 * DAY)) + certificate(Wish(ends=NOW + 5 * DAY))
    assert read_host(chain, key_pem(), NOW).expires == NOW + 5 * DAY


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_whatever_is_given_is_answered_in_sentences(certificate_pem: bytes, key: bytes) -> None:
    assert len(check(certificate_pem, key, NOW)) == 2


# The library reads a serial number that is not positive, and warns of it.
@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@settings(deadline=None)
@given(st.data())
def test_a_damaged_certificate_is_answered_too(data: st.DataObject) -> None:
    pem = certificate(Wish(key="EC"))
    position, byte = data.draw(st.integers(0, len(pem) - 1)), data.draw(st.binary(min_size=1, max_size=1))
    sentences = check(pem[:position] + byte + pem[position + 1 :], key_pem("EC"), NOW)
    assert all(sentence.startswith(("hostcert: ", "hostkey: ")) for sentence in sentences)


@pytest.mark.parametrize(
    ("expires", "found"), [(NOW + 7 * DAY, NOW + 7 * DAY), (None, None)], ids=["ends", "never ends"]
)
def test_a_token_is_passed_on_as_it_is(expires: datetime | None, found: datetime | None) -> None:
    text = token(expires)
    assert read_token(text, NOW).text == text
    assert read_token(text, NOW).expires == found


@pytest.mark.parametrize(
    "text", [b"", b"a.b", b"a.b.c", b"a.e30.c.d", b"a.W10.c", b"a.eyJleHAiOiJ4In0.c", b"\xff.\xff.\xff"]
)
def test_what_is_no_token_is_refused(text: bytes) -> None:
    with pytest.raises(Refused, match="token: it is not a token in JWT form"):
        read_token(text, NOW)


@given(st.binary(max_size=100))
def test_whatever_is_given_as_a_token_is_taken_or_refused(text: bytes) -> None:
    with pytest.raises(Refused):
        read_token(b"x" + text, NOW)


def test_a_token_that_has_ended_is_refused() -> None:
    with pytest.raises(Refused, match="token: it ended at 2030-01-01 11:00 UTC"):
        read_token(token(NOW - HOUR), NOW)


def test_of_a_bundle_of_authorities_one_must_not_have_ended() -> None:
    old = certificate(Wish(key="EC authority", authority=True, ends=NOW - HOUR))
    assert read_authority(old + authority(), NOW) == old + authority()
    with pytest.raises(Refused, match=r"ca\.pem: it ended at"):
        read_authority(old, NOW)
    with pytest.raises(Refused, match=r"ca\.pem: a certificate in PEM form"):
        read_authority(b"", NOW)
