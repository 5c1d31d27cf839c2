"""The portal of a stack: what it may say, and what of it is refused in one sentence."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local.authority import Authority, pem
from settings.portal import portal_of

pytestmark = pytest.mark.fast

WHOLE = {"hub": "one", "address": "https://portal.example.org"}
NOTHING = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n"


def read(portal: Any, *names: str) -> Any:
    sites: Any = [SimpleNamespace(name=name) for name in names or ("one", "two")]
    return portal_of(json.dumps(portal), sites)


def test_a_portal_has_a_hub_and_the_rest_by_default() -> None:
    portal, found = read(WHOLE)
    assert found == []
    assert (portal.hub, portal.seconds, portal.store.mode, portal.store.mib) == ("one", 30, "claim", 2048)


@pytest.mark.parametrize("raw", [None, "{}"])
def test_a_stack_need_not_have_one(raw: str | None) -> None:
    assert portal_of(raw, []) == (None, [])


def test_one_site_needs_no_address() -> None:
    portal, found = read({"hub": "one"}, "one")
    assert (portal.address, found) == (None, [])


def test_the_address_may_be_vouched_for_by_an_authority_of_the_stacks_own(tmp_path: Path) -> None:
    own = Authority.ensure("own", tmp_path / "key.pem", tmp_path / "ca.pem", datetime.now(UTC))
    text = pem(own.certificate).decode()
    portal, found = read({**WHOLE, "certificateAuthority": text})
    assert (portal.certificate_authority, found) == (text, [])
    _, (sentence,) = read({"hub": "one", "certificateAuthority": text}, "one")
    assert sentence == "portal.certificateAuthority is of portal.address: give both or neither."


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"hub": "three"}, "portal.hub is 'three', which is no site of this stack; allowed: one, two."),
        ({"address": None}, "portal.address is missing: sites on other clusters push to it over TLS"),
        ({"address": "http://portal.example.org"}, "portal.address is 'http://portal.example.org'"),
        ({"address": "https://portal.example.org/?x"}, "portal.address is "),
        ({"certificateAuthority": "ca.pem"}, "certificates in PEM form, and nothing else"),
        ({"certificateAuthority": NOTHING}, "portal.certificateAuthority cannot be read: give the whole PEM text"),
        ({"seconds": 5}, "portal.seconds is 5"),
        ({"hubs": "one"}, "portal.hubs is not a key"),
        ({"store": {"mode": "scratch", "storageClass": "fast"}}, "portal.store.storageClass is of a claim"),
    ],
)
def test_a_mistake_is_one_sentence(more: dict[str, Any], sentence: str) -> None:
    _, (found,) = read({key: value for key, value in {**WHOLE, **more}.items() if value is not None})
    assert sentence in found
    assert found.endswith(".")
    assert "\n" not in found
