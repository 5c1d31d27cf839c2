"""Says in one sentence what is wrong with one value of a stack file: the path of its key, the value, what is allowed."""

import difflib
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

UNITS = {"Mib": "MiB", "Seconds": "seconds", "Hours": "hours"}
SHOWN_CHARACTERS = 60
NEVER_SHOWN = ("key",)  # a private key must not reach a terminal or a CI log, not even a wrong one


def sentence(root: str, model: type[BaseModel], details: ErrorDetails) -> str:
    """The sentence for one mistake that pydantic found.

    Args:
        root: the configuration key that the value was read from.
        model: what the value, or each item of the list that it is, should be.
        details: pydantic's account of it.
    """
    location = details["loc"]
    path = root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    match details["type"]:
        case "missing":
            return f"{path} is missing{_reading(str(location[-1]))}."
        case "extra_forbidden":
            return f"{path} is not a key: {_right_keys(str(location[-1]), keys(model, location[:-1]))}."
        case "not_allowed":
            return f"{path} is {_shown(location, details['input'])}; allowed: {details['msg']}."
    rule = details["msg"].removeprefix("Input should ").removeprefix("be ")
    return f"{path} is {_shown(location, details['input'])}; it must be {rule}{_unit(location)}."


def keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand at a place inside a model, as a stack file spells them."""
    for part in location:
        if isinstance(part, int):
            continue
        fields = {field.alias: field.annotation for field in model.model_fields.values()}
        model = next(_models(fields[part]))
    return [str(field.alias) for field in model.model_fields.values()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401  annotations have no common type
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _right_keys(wrong: str, right: list[str]) -> str:
    near = difflib.get_close_matches(wrong.lower(), [key.lower() for key in right], n=1) or [
        key.lower() for key in right if key.lower().startswith(wrong.lower())
    ]
    if near:
        return f"did you mean {next(key for key in right if key.lower() == near[0])}"
    return f"the keys here are {', '.join(right)}"


def _shown(location: tuple[int | str, ...], value: object) -> str:
    if location and location[-1] in NEVER_SHOWN:
        return "not shown here"
    if isinstance(value, dict):
        return "a block of keys"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _unit(location: tuple[int | str, ...]) -> str:
    name = next((part for part in reversed(location) if isinstance(part, str)), "")
    return _reading(name)


def _reading(name: str) -> str:
    """The unit that the end of a key promises, with the word before it."""
    return next((f", in {unit}" for suffix, unit in UNITS.items() if name.endswith(suffix)), "")
