"""Values that are known beforehand, and are of a resource all the same."""

from typing import TypeVar

import pulumi

Value = TypeVar("Value")
NOT_MADE = "not-made"


def after(resource: pulumi.Resource, value: Value) -> pulumi.Output[Value]:
    """The value, once the resource is there; whoever is given it depends on the resource.

    What a resource itself tells of its name is unknown in a preview that comes before it, where policies then cannot
    decide, and missing where the resource could not be made: the engine checks what depends on it before it leaves that
    out, and ends the update of all other sites over the missing name.
    """
    return resource.urn.apply(lambda _: value)


def id_of(resource: pulumi.CustomResource) -> pulumi.Output[str]:
    """The ID that a cloud gives to a resource; of one that could not be made, some text in its place.

    For where nobody can know it beforehand. What is made of it then depends on the resource, passes the engine's check,
    and is left out.
    """

    async def text() -> str:
        return await resource.id.future() or NOT_MADE

    async def known() -> bool:
        return not pulumi.runtime.is_dry_run() or await resource.id.is_known()

    return pulumi.Output({resource}, text(), known())
