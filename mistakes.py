"""Says in one sentence what is wrong with a value of a stack file: the path of its key, the value, what is allowed."""

import difflib
from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]

UNITS = {"Mib": "MiB", "Gib": "GiB", "Seconds": "seconds", "Minutes": "minutes", "Hours": "hours"}
SHOWN_CHARACTERS = 60
NEVER_SHOWN = ("key",)  # a private key must not reach a terminal or a CI log, not even a wrong one
BLOCK, LIST, WHOLE = "a block of keys", "a list", "a whole number"
# What is allowed, for each of pydantic's kinds of mistake; the words in braces come from its own account.
ALLOWED = {
    "model_type": BLOCK,
    "dict_type": BLOCK,
    "tuple_type": LIST,
    "list_type": LIST,
    "too_short": "at least {min_length} entry",
    "string_type": "text",
    "int_type": WHOLE,
    "int_from_float": WHOLE,
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}


def sentences(root: str | Callable[[Location], str], model: type[BaseModel], error: ValidationError) -> list[str]:
    """One sentence for each mistake that pydantic found.

    Args:
        root: the configuration key that the value was read from, or what gives it for a place inside the value.
        model: what the value, or each item of the list that it is, should be.
        error: pydantic's account of them.
    """
    return [
        sentence(root if isinstance(root, str) else root(details["loc"]), model, details)
        for details in error.errors()
        if not _consequence(details)
    ]


def _consequence(details: ErrorDetails) -> bool:
    """Whether a list is only short because wrong entries were left out, of which there are sentences already."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def sentence(root: str, model: type[BaseModel], details: ErrorDetails) -> str:
    """The sentence for one mistake."""
    location = details["loc"]
    path = root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    match details["type"]:
        case "json_invalid":
            return f"{path} is text that is neither a list nor a block of keys; Pulumi.dev.yaml shows its form."
        case "missing":
            unit = _unit(location)
            return f"{path} is missing{f': give it in {unit}' if unit else ''}."
        case "extra_forbidden":
            return f"{path} is not a key: {_right_keys(str(location[-1]), keys(model, location[:-1]))}."
        case "not_allowed":
            allowed = details["msg"]
        case kind:
            allowed = ALLOWED[kind].format(**details.get("ctx", {})) if kind in ALLOWED else details["msg"]
    unit = _unit(location)
    if unit:
        allowed += f" of {unit}" if allowed == WHOLE else f" {unit}"
    return f"{path} is {_shown(location, details['input'])}; allowed: {allowed}."


def keys(model: type[BaseModel], location: Location) -> list[str]:
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


def _shown(location: Location, value: object) -> str:
    match value:
        case str() if (location and location[-1] in NEVER_SHOWN) or "PRIVATE KEY" in value or "\n" in value:
            return "text that is not shown here"
        case dict():
            return BLOCK
        case list():
            return LIST if value else "an empty list"
        case None:
            return "empty"
        case bool():
            return str(value).lower()
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _unit(location: Location) -> str | None:
    """The unit that the end of a key promises."""
    name = next((part for part in reversed(location) if isinstance(part, str)), "")
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), None)
