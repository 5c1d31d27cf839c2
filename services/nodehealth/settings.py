"""Settings of a node that avoid what the rules find, as data with their sources, and whether a node has them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("settings.json")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting, on this node.

    Attributes:
        name: of it.
        good: it is as it should be.
        have: what it is.
        why: it should be.
        source: of the reason.
    """

    name: str
    good: bool
    have: str
    why: str
    source: str


def look(file: Path = FILE, root: Path = Path("/")) -> list[Setting]:
    """All settings, as they are below `root`."""
    return [_look(wanted, root) for wanted in json.loads(file.read_text())]


def _look(wanted: Mapping[str, Any], root: Path) -> Setting:
    try:
        have = (root / wanted["path"].lstrip("/")).read_text().strip()
    except OSError as error:
        have, good = str(error.strerror), False
    else:
        good = _good(wanted, have)
    return Setting(name=wanted["name"], good=good, have=have, why=wanted["why"], source=wanted["source"])


def _good(wanted: Mapping[str, Any], have: str) -> bool:
    if "release" in wanted:
        return bool([int(number) for number in re.findall(r"\d+", have)[:2]] >= wanted["release"])
    if "atLeast" in wanted:
        return bool(int(have) >= wanted["atLeast"])
    return bool(wanted["exists"])
