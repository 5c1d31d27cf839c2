"""What a stack may say of its portal, and what of it cannot work."""

import json
import ssl
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field, TypeAdapter

from settings.accounting import Ledger, ledger_contradictions
from settings.contradictions import Site
from settings.parse import parsed
from settings.values import HOST, Certificates, Closed, SiteName, like

HubAddress = Annotated[
    str, like(rf"https://{HOST}(:[0-9]+)?(/[A-Za-z0-9._~-]+)*", "an https:// address, as in https://portal.example.org")
]


class Portal(Closed):
    """One page on which all sites of the stack are seen: on the site `hub`, to which each site pushes.

    `address` is where sites on other clusters reach the hub's Service portal, port push, over TLS. They believe its
    certificate if one whom everybody knows signed it, or, where it is given, `certificateAuthority` and nobody else.
    """

    hub: SiteName
    address: HubAddress | None = None
    certificate_authority: Certificates | None = None
    seconds: Annotated[int, Field(ge=10, le=600)] = 30
    store: Ledger = Ledger()


def portal_of(raw: str | None, sites: Sequence[Site]) -> tuple[Portal | None, list[str]]:
    """The portal, if the stack has one, and one sentence for each mistake in it.

    Args:
        raw: the key `portal`, as JSON; empty for none.
        sites: of the stack, so far as they are right.
    """
    if raw is None or not json.loads(raw):
        return None, []
    portal, found = parsed(TypeAdapter(Portal), Portal, raw, "portal")
    if portal is not None and sites:
        found += (f"{sentence}." for sentence in _contradictions(portal, sites))
    return portal, found


def _contradictions(portal: Portal, sites: Sequence[Site]) -> Iterator[str]:
    names = [site.name for site in sites]
    if portal.hub not in names:
        yield f"portal.hub is {portal.hub!r}, which is no site of this stack; allowed: {', '.join(names)}"
    if len(sites) > 1 and portal.address is None:
        yield (
            "portal.address is missing: sites on other clusters push to it over TLS; say where they reach the hub's "
            "Service portal (docs/runbooks/portal.md)"
        )
    if portal.certificate_authority is not None:
        if portal.address is None:
            yield "portal.certificateAuthority is of portal.address: give both or neither"
        try:
            ssl.create_default_context(cadata=portal.certificate_authority)
        except ssl.SSLError:
            yield "portal.certificateAuthority cannot be read: give the whole PEM text of who signed the certificate"
    yield from ledger_contradictions("portal.store", portal.store)
