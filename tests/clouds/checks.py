"""What is wrong with the inputs of a resource, and what the cloud would make of them."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from tests.clouds.schema import Resource, Shape, block

CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").decode()
# What a program may take to pieces, by a word that the name of an output ends with; all else is some text.
PLAUSIBLE = {
    "certificate": CERTIFICATE,
    "data": CERTIFICATE,
    "endpoint": "203.0.113.10",
    "address": "203.0.113.10",
    "issuer": "https://issuer.example.org/stand-in",
    "issuerurl": "https://issuer.example.org/stand-in",
    "url": "https://cloud.example.org/stand-in",
}


def mistakes(inputs: Mapping[str, Any], resource: Resource) -> Iterator[tuple[str, str]]:
    """Each mistake in a resource's inputs: the property, and a sentence."""
    for name in inputs:
        if name in resource.outputs and name not in resource.inputs:
            yield name, f"{name} is not an input: only the cloud gives it."
    known = {name: value for name, value in inputs.items() if name in resource.inputs or name not in resource.outputs}
    yield from _of_block(known, resource.inputs, "")


def _of_block(value: Mapping[str, Any], keys: Mapping[str, Shape], path: str) -> Iterator[tuple[str, str]]:
    for name, shape in keys.items():
        if not shape.optional and value.get(name) is None:
            yield path + name, f"{path}{name} is missing."
    for name, inner in value.items():
        if name not in keys:
            yield path + name, f"{path}{name} is not a property; there are {', '.join(sorted(keys))}."
        elif inner is not None:
            yield from _of_value(inner, keys[name], path + name)


def _of_value(value: Any, shape: Shape, path: str) -> Iterator[tuple[str, str]]:
    if value == UNKNOWN or shape.anything:
        return
    if not _fits(value, shape):
        yield path, f"{path} is {_named(value)}; allowed: {shape.words()}."
    elif shape.items:
        for index, item in enumerate(value):
            yield from _of_value(item, shape.items, f"{path}[{index}]")
    elif shape.values:
        for name, item in value.items():
            yield from _of_value(item, shape.values, f"{path}.{name}")
    elif shape.block:
        yield from _of_block(value, block(shape.block), f"{path}.")


def _fits(value: Any, shape: Shape) -> bool:
    if shape.members:
        return value in shape.members
    if shape.scalar is str or shape.scalar is bool:
        return isinstance(value, shape.scalar)
    if shape.scalar:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (shape.scalar is float or value == int(value))
    return isinstance(value, Sequence) and not isinstance(value, str) if shape.items else isinstance(value, Mapping)


def _named(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a block of keys"
    return "a list" if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)


def made(inputs: Mapping[str, Any], resource: Resource, name: str, *, known: bool) -> dict[str, Any]:
    """The outputs of a resource that has just been made of these inputs.

    Args:
        inputs: that were given.
        resource: its type.
        name: that texts are made from.
        known: whether it is there, or only to be: then what the cloud gives is unknown.
    """
    outputs = dict(inputs)
    for output in resource.computed:
        if outputs.get(output) is None:
            outputs[output] = filled(resource.outputs[output], name, output) if known else UNKNOWN
    for given in inputs.keys() & resource.outputs.keys():
        outputs[given] = _completed(inputs[given], resource.outputs[given], name, given, known=known)
    return outputs


def _completed(value: Any, shape: Shape, name: str, path: str, *, known: bool) -> Any:
    """What was given, with what the cloud adds within."""
    if isinstance(value, Mapping) and shape.block:
        keys = block(shape.block)
        added = {
            key: filled(keys[key], name, f"{path}.{key}") if known else UNKNOWN
            for key in keys
            if not keys[key].optional and value.get(key) is None
        }
        given = {
            key: _completed(inner, keys[key], name, f"{path}.{key}", known=known) if key in keys else inner
            for key, inner in value.items()
        }
        return {**added, **given}
    if isinstance(value, list) and shape.items:
        return [
            _completed(item, shape.items, name, f"{path}[{index}]", known=known) for index, item in enumerate(value)
        ]
    if isinstance(value, list) and shape.values:
        # As a list of identities, of which the cloud tells more by a map.
        return {str(key): filled(shape.values, name, f"{path}.{key}") for key in value} if known else UNKNOWN
    return value


def filled(shape: Shape, name: str, path: str, within: frozenset[type] = frozenset()) -> Any:
    """Something of that shape, as a cloud might give it; blocks that hold themselves end after the first."""
    if shape.members:
        return shape.members[0]
    if shape.scalar is str:
        words = (value for end, value in PLAUSIBLE.items() if path.lower().endswith(end))
        return next(words, f"{name}-{path.rsplit('.', 1)[-1]}")
    if shape.scalar:
        return shape.scalar(1)
    if shape.items:
        return [] if shape.items.block in within else [filled(shape.items, name, f"{path}[0]", within)]
    if shape.block:
        deeper = within | {shape.block}
        keys = {key: inner for key, inner in block(shape.block).items() if inner.block not in deeper}
        return {key: filled(inner, name, f"{path}.{key}", deeper) for key, inner in keys.items()}
    return {}


def changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two values differ: the innermost properties, with what was there and what is to be."""
    if isinstance(old or {}, Mapping) and isinstance(new or {}, Mapping) and (old or new):
        before, after = old or {}, new or {}
        for key in sorted({*before, *after}):
            yield from changes(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before, after = (values[index] if index < len(values) else None for values in (old, new))
            yield from changes(before, after, f"{path}[{index}]")
    elif old != new:
        yield path, old, new
