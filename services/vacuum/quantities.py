"""Kubernetes quantities as numbers."""

import re
from decimal import Decimal
from functools import lru_cache

_SUFFIXES = {
    **{
        name: Decimal(1000) ** power for power, name in enumerate(["n", "u", "m", "", "k", "M", "G", "T", "P", "E"], -3)
    },
    **{f"{name}i": Decimal(1024) ** power for power, name in enumerate("KMGTPE", start=1)},
}


@lru_cache(maxsize=1024)  # startds are of a few sizes, and each change of one tells its own again
def quantity(text: str | int) -> Decimal:
    """The number that a Kubernetes quantity stands for, as in 500m or 2Gi.

    Raises:
        ValueError: it is none.
    """
    parts = re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?([a-zA-Z]*)", str(text))
    if parts is None or parts[3] not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(parts[1] + (parts[2] or "")) * _SUFFIXES[parts[3]]
