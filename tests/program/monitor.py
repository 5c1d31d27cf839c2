"""A stand-in for the Pulumi engine that records all a program declares, with the options that mocks never see.

    monitor = deploy(lambda: Squids("a-squid", SquidsArgs(…)))
    secret = monitor.one("kubernetes:core/v1:Secret", "a-credentials-proxy")
    assert secret.ignore_changes == ["data"]

Nothing is shared between two calls of `deploy`: neither resources, nor configuration, nor the event loop. Each resource
gets its inputs back as its outputs, as if a provider had made it at once. It does not run transforms or hooks.
"""

# ruff: noqa: N802  the names are those of the protocol

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pulumi
from google.protobuf import empty_pb2, json_format  # type: ignore[import-untyped]
from pulumi.runtime import rpc, settings
from pulumi.runtime.proto import engine_pb2, provider_pb2, resource_pb2
from pulumi.runtime.stack import run_in_stack

PROJECT = "atlas-sites"
STACK = "dev"
STACK_TYPE = "pulumi:pulumi:Stack"
KUBERNETES = "kubernetes:"
UNKNOWN = rpc.UNKNOWN  # what an input holds whose value a preview cannot know


@dataclass(kw_only=True)
class Resource:
    """One resource as it was declared.

    Attributes:
        type: as in kubernetes:core/v1:Secret.
        name: the logical one.
        parent: URN of the parent; empty for the stack itself.
        custom: whether a provider makes it; else it is a component.
        inputs: plain values, secrets unwrapped, `UNKNOWN` where a preview knows no value.
        secrets: paths of the inputs that are secret, as in data or spec.token.
        ignore_changes: paths as they are in JSON, which is camelCase.
        secret_outputs: paths that are secret whatever they hold.
        depends_on: URNs of all it waits for, told by `depends_on` or by inputs made of their outputs.
        provider: URN and ID of an explicit provider, with :: between; empty for the default one.
        timeouts: for create, update and delete, as text; empty where there is none.
        aliases: names it had before.
        outputs: what a component registered; None if it never did.
        outputs_secret: paths of those that are secret.
    """

    type: str
    name: str
    urn: str
    parent: str
    custom: bool
    inputs: dict[str, Any]
    secrets: list[str]
    protect: bool
    retain_on_delete: bool
    ignore_changes: list[str]
    replace_on_changes: list[str]
    delete_before_replace: bool
    secret_outputs: list[str]
    depends_on: list[str]
    provider: str
    timeouts: dict[str, str]
    aliases: list[str]
    import_id: str
    outputs: dict[str, Any] | None = None
    outputs_secret: list[str] = field(default_factory=list)


class Monitor:
    """What the language runtime talks to.

    Attributes:
        resources: in the order in which they were registered, the stack first.
        logs: (severity, message), as in ("WARNING", "…").
    """

    def __init__(
        self, invoke: Callable[[str, dict[str, Any]], dict[str, Any]], made: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.resources: list[Resource] = []
        self.logs: list[tuple[str, str]] = []
        self._invoke = invoke
        self._made = made
        self._lock = threading.Lock()

    @property
    def stack(self) -> Resource:
        """The stack; its `outputs` are the exports."""
        return self.one(STACK_TYPE)

    def all(self, kind: str | None = None) -> list[Resource]:
        """All resources, or those of one type."""
        return [resource for resource in self.resources if kind in (None, resource.type)]

    def one(self, kind: str, name: str | None = None) -> Resource:
        """The only resource of a type, or the one of that name among several."""
        found = [resource for resource in self.all(kind) if name in (None, resource.name)]
        assert len(found) == 1, f"{len(found)} of {kind} {name or ''}: {[resource.name for resource in self.all(kind)]}"
        return found[0]

    def children(self, parent: Resource) -> list[Resource]:
        """What was declared with this parent."""
        return [resource for resource in self.resources if resource.parent == parent.urn]

    def manifests(self) -> list[dict[str, Any]]:
        """The Kubernetes objects, as kubectl applies them."""
        return [
            {"apiVersion": _version(each.type), "kind": each.type.rpartition(":")[2], **each.inputs}
            for each in self.resources
            if each.type.startswith(KUBERNETES)
        ]

    def SupportsFeature(self, request: Any) -> Any:
        # Outputs as values would arrive as wrappers in the inputs.
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id != "outputValues")

    def RegisterResource(self, request: Any) -> Any:
        inputs, secrets = _plain(request.object)
        path = request.type if request.type == STACK_TYPE or not request.parent else _path(request.parent, request.type)
        urn = f"urn:pulumi:{STACK}::{PROJECT}::{path}::{request.name}"
        resource = Resource(
            type=request.type,
            name=request.name,
            urn=urn,
            parent=request.parent,
            custom=request.custom,
            inputs=inputs,
            secrets=secrets,
            protect=request.protect,
            retain_on_delete=request.retainOnDelete,
            ignore_changes=list(request.ignoreChanges),
            replace_on_changes=list(request.replaceOnChanges),
            delete_before_replace=request.deleteBeforeReplace,
            secret_outputs=list(request.additionalSecretOutputs),
            depends_on=sorted(request.dependencies),
            provider=request.provider,
            timeouts={
                key: getattr(request.customTimeouts, key)
                for key in ("create", "update", "delete")
                if getattr(request.customTimeouts, key)
            },
            aliases=[alias.spec.name or alias.urn for alias in request.aliases],
            import_id=request.importId,
        )
        with self._lock:
            assert urn not in {other.urn for other in self.resources}, f"declared twice: {urn}"
            self.resources.append(resource)
        answer = resource_pb2.RegisterResourceResponse(urn=urn, id=f"{request.name}-id" if request.custom else "")
        answer.object.CopyFrom(request.object)
        if request.type.startswith("azure-native:") and "identity" in answer.object:
            # Its list of identities comes back as a map, and the SDK takes nothing else.
            answer.object["identity"].update({"userAssignedIdentities": {}})
        answer.object.update(self._made.get(request.type, {}))
        return answer

    def RegisterResourceOutputs(self, request: Any) -> Any:
        resource = next(resource for resource in self.resources if resource.urn == request.urn)
        assert resource.outputs is None, f"outputs registered twice: {request.urn}"
        resource.outputs, resource.outputs_secret = _plain(request.outputs)
        return empty_pb2.Empty()

    def ReadResource(self, request: Any) -> Any:
        answer = resource_pb2.ReadResourceResponse(urn=f"urn:pulumi:{STACK}::{PROJECT}::{request.type}::{request.name}")
        answer.properties.CopyFrom(request.properties)
        return answer

    def Invoke(self, request: Any) -> Any:
        arguments, _ = _plain(request.args)
        answer = provider_pb2.InvokeResponse()
        getattr(answer, "return").update(self._invoke(request.tok, arguments))
        return answer

    def RegisterPackage(self, _: Any) -> Any:
        return resource_pb2.RegisterPackageResponse(ref="package")

    def SignalAndWaitForShutdown(self, _: Any) -> Any:
        return empty_pb2.Empty()

    def Log(self, request: Any) -> Any:
        self.logs.append((engine_pb2.LogSeverity.Name(request.severity), request.message))
        return empty_pb2.Empty()


def deploy(
    program: Callable[[], object],
    *,
    config: Mapping[str, str] | None = None,
    secret_config: Sequence[str] = (),
    preview: bool = False,
    invoke: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _function, _arguments: {},
    made: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Monitor:
    """Runs a program and waits until all it declared is registered.

    Args:
        program: declares resources; an exception in it, or in an `apply`, is raised here.
        config: by full key, as in atlas-sites:sites; values are text, JSON for what is structured.
        secret_config: the keys among them whose values are encrypted.
        preview: as `pulumi preview`: IDs are not known yet.
        invoke: the answer of a provider's function.
        made: by type, what a provider adds to the inputs; no preview knows it.
    """

    def declare() -> None:
        program()

    async def run() -> Monitor:
        monitor = Monitor(invoke, {} if preview else made)
        settings.configure(
            settings.Settings(project=PROJECT, stack=STACK, dry_run=preview, monitor=monitor, engine=monitor)
        )
        pulumi.runtime.set_all_config(dict(config or {}), list(secret_config))
        await run_in_stack(declare)
        return monitor

    # The SDK keeps its settings, the configuration and the stack in context variables.
    return contextvars.copy_context().run(asyncio.run, run())


def _path(parent: str, kind: str) -> str:
    above = parent.split("::")[2]
    return kind if above == STACK_TYPE else f"{above}${kind}"


def _plain(struct: Any) -> tuple[dict[str, Any], list[str]]:
    """The values of a message, and the paths of those that are wrapped as secrets."""
    secrets: list[str] = []

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            if value.get(rpc._special_sig_key) == rpc._special_secret_sig:
                secrets.append(path)
                return walk(value["value"], path)
            return {key: walk(inner, f"{path}.{key}" if path else key) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    return walk(json_format.MessageToDict(struct), ""), secrets


def _version(kind: str) -> str:
    """The API version in a Pulumi type, as in kubernetes:apps/v1:Deployment."""
    group, _, version = kind.removeprefix(KUBERNETES).rpartition(":")[0].partition("/")
    return version if group == "core" else f"{group}/{version}"
