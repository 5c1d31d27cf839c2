"""A question to a provider, whose refusal is the asker's to deal with.

The SDK's own invokes end the whole program when a provider refuses (`pulumi.runtime.invoke`: "this will also crash the
process"), and with it the update of every other site of the stack.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc  # type: ignore[import-untyped]  # it has no types
from pulumi.runtime import rpc
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_monitor


class RefusedError(Exception):
    """What the provider says, in its words."""


async def answer(provider: str, function: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    """What a provider's function gives.

    Args:
        provider: its reference: URN and ID, with :: between.
        function: its token, as in azure-native:containerservice:listManagedClusterUserCredentials.
        arguments: by their names in the cloud's API.

    Raises:
        RefusedError: it gives nothing.
    """
    request = resource_pb2.ResourceInvokeRequest(tok=function, provider=provider)
    request.args.update(arguments)
    monitor = get_monitor()
    if monitor is None:
        raise RefusedError("there is no engine to ask it by")
    try:
        response = await asyncio.get_running_loop().run_in_executor(None, monitor.Invoke, request)
    except grpc.RpcError as error:
        raise RefusedError(" ".join(str(error.details()).split())) from None
    if response.failures:
        raise RefusedError("; ".join(failure.reason for failure in response.failures))
    given = rpc.deserialize_properties(getattr(response, "return"))
    return {key: rpc.unwrap_rpc_secret(value) for key, value in given.items()}
