"""Values that are known beforehand, and are of a resource all the same."""

from typing import TypeVar

import pulumi

Value = TypeVar("Value")


def after(resource: pulumi.Resource, value: Value) -> pulumi.Output[Value]:
    """The value, once the resource is there; whoever is given it depends on the resource.

    What a resource itself tells of its name is unknown in a preview that comes before it, where policies then cannot
    decide, and missing where the resource could not be made: the engine checks what depends on it before it leaves that
    out, and ends the update of all other sites over the missing name.
    """
    return resource.urn.apply(lambda _: value)
