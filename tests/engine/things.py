"""A provider of things that are made only when they are let: run as a plugin, it waits for a file in `place`.

While a thing is being made there is a file `<name>.making`; `<name>.let` lets it be made, `<name>.fail` makes it fail.
"""

# ruff: noqa: N802  the names are the protocol's

import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # it has no types
from google.protobuf import empty_pb2  # type: ignore[import-untyped]  # it has no types
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

POLL_SECONDS = 0.05
ended = threading.Event()


class Things(provider_pb2_grpc.ResourceProviderServicer):
    """What the engine asks of a provider in the life of a simple resource."""

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version="1.0.0")

    def CheckConfig(
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        return provider_pb2.ConfigureResponse()

    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        name = request.urn.rsplit("::", 1)[-1]
        place = Path(request.properties["place"])
        (place / f"{name}.making").touch()
        if (place / f"{name}.fail").exists():
            context.abort(grpc.StatusCode.UNKNOWN, "quota of 10 vCPUs exceeded")
        while not (place / f"{name}.let").exists() and not ended.wait(POLL_SECONDS):
            pass
        return provider_pb2.CreateResponse(id=name, properties=request.properties)

    def Read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        return provider_pb2.ReadResponse(id=request.id, inputs=request.inputs, properties=request.properties)

    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()


def serve() -> None:
    server = grpc.server(futures.ThreadPoolExecutor())
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Things(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()  # closed when the engine is gone, however it ended
    ended.set()
    server.stop(None)


if __name__ == "__main__":
    serve()
