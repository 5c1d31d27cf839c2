"""What a cloud's provider takes and gives, as the cloud's installed Python SDK tells it.

Nothing here is written by hand: names, types, members of enumerations, what must be given and what only the cloud gives
are read from the classes of the SDK, which are generated from the schema that the real provider is generated from.
"""

import enum
import functools
import importlib
import re
import sys
import threading
import types
import typing
import warnings
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ForwardRef, Union

import pulumi

SDKS = {"azure-native": "pulumi_azure_native", "gcp": "pulumi_gcp", "aws": "pulumi_aws"}
SCALARS: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
# Python's filters of warnings are the whole process's.
_importing = threading.Lock()
# In an annotation, what a program may give in place of the value; never what goes to a provider.
DEFERRED = "Output[T]"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a value may be.

    Attributes:
        optional: it may be left out.
        scalar: a string, a truth value or a number; None if it is none.
        members: of an enumeration; empty where every value of the type will do.
        items: of a list.
        values: of a map.
        block: the SDK's class for an object with keys of its own.
        anything: the SDK says no more.
    """

    optional: bool = False
    scalar: type | None = None
    members: tuple[str, ...] = ()
    items: "Shape | None" = None
    values: "Shape | None" = None
    block: type | None = None
    anything: bool = False

    def words(self) -> str:
        """What is allowed."""
        if self.members:
            return f"one of {', '.join(self.members)}"
        if self.scalar:
            return SCALARS[self.scalar]
        return "a list" if self.items else "a block of keys"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A type of resource, or the provider's own configuration.

    Attributes:
        inputs: that a program may give, by the name that the provider knows.
        outputs: all that the state then holds.
    """

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]

    @property
    def computed(self) -> Iterator[str]:
        """What the cloud fills in when a program does not: of an output that is always there, it is then the source."""
        for name, shape in self.outputs.items():
            if name not in self.inputs or (self.inputs[name].optional and not shape.optional):
                yield name


class NoSuchTypeError(Exception):
    """The SDK knows no such resource or function."""


@functools.cache
def resource(token: str) -> Resource:
    """The resource type of that token, as in `gcp:container/nodePool:NodePool`.

    Raises:
        NoSuchTypeError: the SDK has none.
    """
    made = _named(token, "")
    module = sys.modules[made.__module__]
    # Beside the resource in its own module; elsewhere one of the same name may stand for a part of another resource.
    (given,) = (name for name in module.__all__ if name.endswith("Args"))
    return Resource(inputs=block(getattr(module, given)), outputs=block(made))


@functools.cache
def configuration(package: str) -> Resource:
    """What the provider itself is told."""
    module = f"{SDKS[package]}.provider"
    return Resource(inputs=block(_attribute(module, "ProviderArgs")), outputs=block(_attribute(module, "Provider")))


@functools.cache
def result(token: str) -> Mapping[str, Shape]:
    """What a function gives, as in `aws:eks/getClusterAuth:getClusterAuth`.

    Raises:
        NoSuchTypeError: the SDK has none.
    """
    package, module, name = token.split(":")
    return block(_named(f"{package}:{module}:{name[0].upper()}{name[1:]}", "Result"))


@functools.cache
def block(made_of: type) -> Mapping[str, Shape]:
    """The keys of a class of an SDK."""
    module = sys.modules[made_of.__module__]
    found = {}
    for cls in reversed(made_of.__mro__):
        for member in vars(cls).values():
            name = getattr(member.fget, "_pulumi_name", None) if isinstance(member, property) else None
            if name is not None:
                found[name] = shape(member.fget.__annotations__["return"], module)
    return found


def shape(annotation: object, module: types.ModuleType) -> Shape:
    """What the SDK's annotation of a property allows."""
    choices = list(_choices(annotation, module))
    optional = types.NoneType in choices
    described = [_described(choice, module) for choice in choices if choice is not types.NoneType]
    # An enumeration is annotated as itself or a string, so that strings may be written for its members.
    first = next((one for one in described if one.members), described[0] if described else Shape(anything=True))
    return Shape(**{**vars(first), "optional": optional})


def _choices(annotation: object, module: types.ModuleType) -> Iterator[object]:
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        if annotation != DEFERRED:
            yield from _choices(eval(annotation, vars(module)), module)  # noqa: S307  the SDK's own annotation
        return
    origin = typing.get_origin(annotation)
    if origin in {Union, types.UnionType, pulumi.Output}:
        for choice in typing.get_args(annotation):
            yield from _choices(choice, module)
    elif origin is not Awaitable:
        yield annotation


def _described(annotation: object, module: types.ModuleType) -> Shape:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {list, Sequence}:
        return Shape(items=shape(inner[0], module))
    if origin in {dict, Mapping}:
        return Shape(values=shape(inner[1], module))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return Shape(scalar=str, members=tuple(str(member.value) for member in annotation))
    if isinstance(annotation, type) and annotation in SCALARS:
        return Shape(scalar=annotation)
    if isinstance(annotation, type) and any(hasattr(annotation, mark) for mark in _MARKS):
        return Shape(block=annotation)
    return Shape(anything=True)


_MARKS = ("_pulumi_input_type", "_pulumi_output_type")


@functools.cache
def _attribute(module: str, name: str) -> Any:
    """What a module of an SDK has of that name; modules are imported when they are first asked for something."""
    with _importing, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the SDK's own deprecated parts
        return getattr(importlib.import_module(module), name)


def _named(token: str, suffix: str) -> Any:
    package, module, name = token.split(":")
    if package not in SDKS:
        raise NoSuchTypeError(f"{token} is not in the SDKs {', '.join(SDKS.values())}")
    # As in containerservice (azure-native) and container/nodePool (the other two), there with a module for each.
    place = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", module.split("/")[0]).lower()
    try:
        found = _attribute(f"{SDKS[package]}.{place}", f"{name}{suffix}")
    except (AttributeError, ModuleNotFoundError):
        raise NoSuchTypeError(f"{token} is not in the SDK {SDKS[package]}") from None
    if not suffix and found.pulumi_type != token:
        raise NoSuchTypeError(f"{token} is {found.pulumi_type} in the SDK {SDKS[package]}")
    return found
