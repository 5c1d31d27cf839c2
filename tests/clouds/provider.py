"""Stand-ins for the clouds' providers: they check, compare and remember as the real ones would, and make nothing.

They know a resource's properties from the cloud's SDK (`schema.py`), and which of them a cloud cannot change in place
from a table (`replacement.json`). What only a real cloud knows, such as quotas, or whether a name is taken, they do
not: docs/real-cloud.md lists it. The engine is told of them by `PULUMI_DEBUG_PROVIDERS`, so that one process serves
all operations of a test.
"""

# ruff: noqa: N802  the names are the protocol's

import base64
import importlib.metadata
import json
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]  # it has no types
import yaml
from google.protobuf import empty_pb2, struct_pb2  # type: ignore[import-untyped]  # they have no types
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # it has no types
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.clouds import checks, schema

TABLE = Path(__file__).with_name("replacement.json")
THREADS = 32
Response = TypeVar("Response")
Entry = provider_pb2.PropertyDiff
# By whether there was something before, and there is something after.
KINDS = {
    (False, True): (Entry.ADD, Entry.ADD_REPLACE),
    (True, False): (Entry.DELETE, Entry.DELETE_REPLACE),
    (True, True): (Entry.UPDATE, Entry.UPDATE_REPLACE),
}


class StandIn(provider_pb2_grpc.ResourceProviderServicer):
    """A provider: the engine's state is all its memory, but for what somebody imports who has lost that state.

    Attributes:
        refused: beginnings of the names of resources that it refuses to make.
        asked: the operations that changed something, as in `create hall-cluster-jobs`.
        there: what it has made, by type and ID: what was given, and what came of it.
    """

    def __init__(self, sdk: str) -> None:
        self.version = importlib.metadata.version(sdk)
        self.refused: tuple[str, ...] = ()
        self.asked: list[str] = []
        self.there: dict[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, Any]]] = {}

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> None:
        """None; said by an answer, where the base class would fill a test's log with a traceback."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the stand-in is told all it needs by Configure")

    def Attach(self, request: plugin_pb2.PluginAttach, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self.version)

    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        failures = [
            provider_pb2.CheckFailure(property=path, reason=sentence)
            for path, sentence in self.mistakes(_type(request.urn), _plain(request.news))
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        found = list(checks.changes(_plain(request.old_inputs), _plain(request.news)))
        try:
            replaced = {path for path, _, _ in found if self.replaces(_type(request.urn), path)}
        except KeyError as error:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{TABLE.name} has no row for {error}: look it up")
        detailed = {
            path: Entry(kind=KINDS[old is not None, new is not None][path in replaced], inputDiff=True)
            for path, old, new in found
        }
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if found else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=sorted({_top(path) for path in detailed}),
            replaces=sorted({_top(path) for path in replaced}),
            # A name that the program chose is taken until the old one is gone.
            deleteBeforeReplace=bool(replaced),
            detailedDiff=detailed,
            hasDetailedDiff=True,
        )

    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        name = request.urn.rsplit("::", 1)[-1]
        outputs = self.outputs(_type(request.urn), _plain(request.properties), name, known=not request.preview)
        if request.preview:
            return provider_pb2.CreateResponse(properties=_struct(outputs))
        self.asked.append(f"create {name}")
        if name.startswith(self.refused):
            context.abort(grpc.StatusCode.UNKNOWN, "the stand-in was told to refuse this")
        identity = self.identity(name, outputs)
        self.there[_type(request.urn), identity] = _plain(request.properties), outputs
        return provider_pb2.CreateResponse(id=identity, properties=_struct(outputs))

    def Update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        name = request.urn.rsplit("::", 1)[-1]
        before, after = _plain(request.olds), _plain(request.news)
        # What was given before and no longer is goes; what the cloud gave stays.
        kept = {key: value for key, value in before.items() if key not in _plain(request.old_inputs)}
        made = self.outputs(_type(request.urn), {**kept, **after}, name, known=True)
        if not request.preview:
            self.asked.append(f"update {name}")
            self.there[_type(request.urn), request.id] = after, made
        return provider_pb2.UpdateResponse(properties=_struct(made))

    def Read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        if request.properties.fields:
            return provider_pb2.ReadResponse(id=request.id, inputs=request.inputs, properties=request.properties)
        if (key := (_type(request.urn), request.id)) not in self.there:
            return provider_pb2.ReadResponse()  # there is none with that ID
        inputs, outputs = self.there[key]
        return provider_pb2.ReadResponse(id=request.id, inputs=_struct(inputs), properties=_struct(outputs))

    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self.there.pop((_type(request.urn), request.id), None)
        self.asked.append(f"delete {request.urn.rsplit('::', 1)[-1]}")
        return empty_pb2.Empty()

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    def mistakes(self, token: str, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What is wrong with a resource: the property, and a sentence."""
        yield from ()

    def outputs(self, token: str, inputs: Mapping[str, Any], name: str, *, known: bool) -> Mapping[str, Any]:
        """What the state holds of it; unknown where the cloud decides and nothing is there yet."""
        return inputs

    def identity(self, name: str, outputs: Mapping[str, Any]) -> str:
        """The ID."""
        return name

    def replaces(self, token: str, path: str) -> bool:
        """Whether a property cannot be changed in place."""
        return False


class Cloud(StandIn):
    """One cloud's provider.

    Attributes:
        credential: in the kubeconfigs that it gives.
        withheld: names of clusters whose kubeconfigs it does not give.
    """

    def __init__(self, package: str) -> None:
        super().__init__(schema.SDKS[package])
        self.package = package
        self.immutable = immutable()
        self.credential = "first"
        self.withheld: tuple[str, ...] = ()

    def CheckConfig(
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        # All that is no text goes to a provider as JSON.
        given = {key: _from_json(value) for key, value in _plain(request.news).items() if key != "version"}
        failures = [
            provider_pb2.CheckFailure(property=path, reason=sentence)
            for path, sentence in checks.mistakes(given, schema.configuration(self.package))
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        found = list(checks.changes(_plain(request.old_inputs), _plain(request.news)))
        some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=some if found else none, diffs=sorted({_top(path) for path, _, _ in found})
        )

    def Invoke(self, request: provider_pb2.InvokeRequest, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        try:
            shapes = schema.result(request.tok)
        except schema.NoSuchTypeError as error:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, str(error))
        if _plain(request.args).get("resourceName") in self.withheld:
            context.abort(grpc.StatusCode.UNKNOWN, "the stand-in was told to withhold it")
        name = request.tok.rsplit(":", 1)[-1]
        given = {key: checks.filled(shape, name, key) for key, shape in shapes.items()}
        for kubeconfig in given.get("kubeconfigs", ()):
            kubeconfig["value"] = base64.b64encode(_kubeconfig(self.credential).encode()).decode()
        return provider_pb2.InvokeResponse(**{"return": _struct({**given, **_plain(request.args)})})

    def mistakes(self, token: str, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        try:
            yield from checks.mistakes(_given(inputs), schema.resource(token))
        except schema.NoSuchTypeError as error:
            yield "", f"{error}."

    def outputs(self, token: str, inputs: Mapping[str, Any], name: str, *, known: bool) -> Mapping[str, Any]:
        return checks.made(_given(inputs), schema.resource(token), name, known=known)

    def identity(self, name: str, outputs: Mapping[str, Any]) -> str:
        return f"/stand-in/{self.package}/{outputs.get('name') or name}"

    def replaces(self, token: str, path: str) -> bool:
        places = re.sub(r"\[\d+\]", "[*]", path)
        return any(places == row or re.match(rf"{re.escape(row)}[.\[]", places) for row in self.immutable[token])


class Kubernetes(StandIn):
    """The provider for Kubernetes where no API server is: objects are what the program says.

    Two things are left to the real one, which needs no API server for them: whether a changed configuration means
    another cluster, and so new objects; and all that it makes of a kubeconfig that leads nowhere.
    """

    IMMUTABLE = ("apiVersion", "kind", "metadata.name", "metadata.namespace")

    def __init__(self, program: Path) -> None:
        super().__init__("pulumi_kubernetes")
        self.program = program
        self.running = ExitStack()
        self.real = self.running.enter_context(real_kubernetes(program))
        # By the connection: the engine makes one for each provider resource, and begins it with Configure. Its port may
        # have been that of an earlier one.
        self.lost: dict[str, provider_pb2_grpc.ResourceProviderStub] = {}

    def CheckConfig(
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        response: provider_pb2.CheckResponse = _passed_on(self.real.CheckConfig, request, context)
        return response

    def DiffConfig(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        response: provider_pb2.DiffResponse = _passed_on(self.real.DiffConfig, request, context)
        return response

    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        if leads_nowhere(request.variables.get("kubernetes:config:kubeconfig", "")):
            self.lost[context.peer()] = self.running.enter_context(real_kubernetes(self.program))
            response: provider_pb2.ConfigureResponse = _passed_on(self.lost[context.peer()].Configure, request, context)
            return response
        self.lost.pop(context.peer(), None)
        return super().Configure(request, context)

    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        real = self.lost.get(context.peer())
        return _passed_on(real.Check, request, context) if real else super().Check(request, context)

    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        real = self.lost.get(context.peer())
        return _passed_on(real.Diff, request, context) if real else super().Diff(request, context)

    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        real = self.lost.get(context.peer())
        return _passed_on(real.Create, request, context) if real else super().Create(request, context)

    def Update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        real = self.lost.get(context.peer())
        return _passed_on(real.Update, request, context) if real else super().Update(request, context)

    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        real = self.lost.get(context.peer())
        return _passed_on(real.Delete, request, context) if real else super().Delete(request, context)

    def identity(self, name: str, outputs: Mapping[str, Any]) -> str:
        about = outputs.get("metadata", {})
        return "/".join(part for part in (about.get("namespace"), about.get("name", name)) if part)

    def replaces(self, token: str, path: str) -> bool:
        return path in self.IMMUTABLE


def leads_nowhere(kubeconfig: str) -> bool:
    """Whether it names no cluster, or one on this machine where nobody listens."""
    try:
        server = urlsplit(yaml.safe_load(kubeconfig)["clusters"][0]["cluster"]["server"])
    except (KeyError, IndexError, TypeError):
        return True
    if server.hostname != "127.0.0.1":
        return False
    with socket.socket() as probe:
        return probe.connect_ex((server.hostname, server.port or 443)) != 0


def immutable() -> Mapping[str, tuple[str, ...]]:
    """For each resource type of the table the properties that no cloud changes in place.

    A type that is not in the table is an error: somebody must look it up.
    """
    table = json.loads(TABLE.read_text())
    return {token: tuple(row["properties"]) for token, row in table["types"].items()}


@contextmanager
def served(standins: Mapping[str, StandIn]) -> Iterator[str]:
    """Serves them, by package; gives what `PULUMI_DEBUG_PROVIDERS` must say."""
    with ExitStack() as stack:
        places = []
        for package, standin in standins.items():
            server = grpc.server(futures.ThreadPoolExecutor(max_workers=THREADS))
            provider_pb2_grpc.add_ResourceProviderServicer_to_server(standin, server)
            places.append(f"{package}:{server.add_insecure_port('127.0.0.1:0')}")
            server.start()
            stack.callback(server.stop, None)
        yield ",".join(places)


@contextmanager
def real_kubernetes(program: Path) -> Iterator[provider_pb2_grpc.ResourceProviderStub]:
    """The real provider for Kubernetes, without an engine."""
    process = subprocess.Popen([program, "127.0.0.1:1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        channel = grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}")
        # It says more than a pipe holds, and would wait for a reader.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield provider_pb2_grpc.ResourceProviderStub(channel)
        channel.close()
    finally:
        process.kill()
        process.communicate()


def _kubeconfig(credential: str) -> str:
    """One that leads to a machine that does not exist, by a program, as a cloud's does."""
    login = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "args": ["--for", credential]}
    name = "stand-in"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": "https://203.0.113.10"}}],
        "users": [{"name": name, "user": {"exec": login}}],
    }
    return json.dumps(document)


def _passed_on(call: Callable[[Any], Response], request: Any, context: grpc.ServicerContext) -> Response:
    """What another provider answers, and be it an error."""
    try:
        return call(request)
    except grpc.RpcError as error:
        context.abort(error.code(), error.details())
        raise  # never: abort does


def _type(urn: str) -> str:
    """The resource's own type, without those of its parents."""
    return urn.split("::")[2].rsplit("$", 1)[-1]


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _plain(struct: struct_pb2.Struct) -> dict[str, Any]:
    return dict(MessageToDict(struct))


def _struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct


def _given(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without what the engine adds of its own."""
    return {key: value for key, value in inputs.items() if not key.startswith("__")}


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
