"""What a rule is shown, and what it should say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Case:
    """Resources on which a rule decides; what fails has words that its sentence must hold."""

    passing: list[tuple[str, Mapping[str, Any]]]
    failing: list[tuple[str, Mapping[str, Any], str]]
    not_applicable: list[tuple[str, Mapping[str, Any]]]
    unknown: list[tuple[str, Mapping[str, Any]]]
    config: Mapping[str, Any] = field(default_factory=dict)
