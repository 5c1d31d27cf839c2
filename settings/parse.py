"""From the text of a configuration key to a checked value."""

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

import mistakes

Value = TypeVar("Value")
Location = mistakes.Location


def parsed(
    adapter: TypeAdapter[Value], model: type[BaseModel], raw: str, root: str | Callable[[Location], str]
) -> tuple[Value | None, list[str]]:
    """The value of a configuration key, or one sentence for each mistake in it.

    Args:
        adapter: of what the value should be.
        model: of what the value, or each item of the list that it is, should be.
        raw: JSON.
        root: the path of the value, or what gives it for a place inside the value.
    """
    try:
        return adapter.validate_json(raw), []
    except ValidationError as error:
        return None, mistakes.sentences(root, model, error)
