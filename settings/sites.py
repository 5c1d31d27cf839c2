"""The sites of a stack: each with its own keys over the shared defaults, as a union on `kind`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from settings.clouds import AmazonSite, AzureSite, GoogleSite
from settings.contradictions import Site, contradictions
from settings.existing import ExistingSite
from settings.parse import Location, parsed
from settings.workload import AnySite

KINDS: Mapping[str, type[Site]] = {
    "existing": ExistingSite,
    "azure": AzureSite,
    "gcp": GoogleSite,
    "aws": AmazonSite,
}
# What sites may share: all but who they are and what their cluster is.
SHARED = sorted(
    str(field.alias) for name, field in AnySite.model_fields.items() if name not in {"name", "former_names"}
)

Block = dict[str, Any]


def sites_of(raw: str | None, defaults: str | None, *, secret: bool) -> tuple[tuple[Site, ...], list[str]]:
    """The sites, and one sentence for each mistake in them.

    Args:
        raw: the key `sites`, as JSON.
        defaults: the key `defaults`, as JSON: what each site is taken to say that does not say otherwise.
        secret: whether one of the two holds an encrypted value.
    """
    if raw is None:
        return (), ["sites is missing: list at least one site; Pulumi.dev.yaml shows every key."]
    blocks, found = parsed(TypeAdapter(Annotated[list[Block], Field(min_length=1)]), AnySite, raw, "sites")
    shared, more = _shared(defaults)
    if blocks is None or shared is None:
        return (), [*found, *more]
    sites: list[Site] = []
    for index, block in enumerate(blocks):
        site, more = _site(f"sites[{index}]", block, shared)
        found += (sentence for sentence in more if sentence not in found)
        if site:
            sites.append(site)
    return tuple(sites), found or [f"{sentence}." for sentence in contradictions(sites, secret=secret)]


def _shared(raw: str | None) -> tuple[Block | None, list[str]]:
    if raw is None:
        return {}, []
    block, found = parsed(TypeAdapter(Block), AnySite, raw, "defaults")
    wrong = [key for key in block or () if key not in SHARED]
    found += (f"defaults.{key} is not a key: sites may share {', '.join(SHARED)}." for key in wrong)
    return (None if found else block), found


def _site(path: str, block: Block, shared: Block) -> tuple[Site | None, list[str]]:
    kind = block.get("kind")
    if kind is None:
        return None, [f"{path}.kind is missing: say one of {', '.join(KINDS)}."]
    if not isinstance(kind, str) or kind not in KINDS:
        return None, [f"{path}.kind is {kind!r}; allowed: {', '.join(KINDS)}."]

    def root(location: Location) -> str:
        return path if _says(block, location) or not _says(shared, location) else "defaults"

    model = KINDS[kind]
    return parsed(TypeAdapter(model), model, json.dumps(over(shared, block)), root)


def over(shared: Mapping[str, Any], own: Mapping[str, Any]) -> Block:
    """The shared block with a site's own keys over it; lists and single values are not mixed but replaced."""
    whole = {**shared, **own}
    for key, value in own.items():
        beneath = shared.get(key)
        if isinstance(value, dict) and isinstance(beneath, dict):
            whole[key] = over(beneath, value)
    return whole


def _says(block: Any, location: Location) -> bool:  # noqa: ANN401  what YAML holds
    """Whether what stands at that place was written in that block."""
    for part in location:
        match block, part:
            case dict(), str() if part in block:
                block = block[part]
            case list(), int() if part < len(block):
                block = block[part]
            case _:
                return False
    return True
