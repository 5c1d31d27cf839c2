"""The language host for Python, for an engine that came without one.

The engine starts it with its own address, reads a port from its first line, and speaks the `LanguageRuntime` protocol
with it there. The protocol, the running of a program and the reporting of its errors are the SDK's own; what is added
is what only a host outside a program needs. It imports nothing of this project, because it is copied beside the engine.
"""

# ruff: noqa: ARG002, N802  the names and the arguments of the servicer are the protocol's

import importlib.metadata
import json
import os
import queue
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from types import FrameType
from typing import IO

import grpc  # type: ignore[import-untyped]  # it has no types
from google.protobuf import empty_pb2  # type: ignore[import-untyped]  # it has no types
from pulumi import RunError
from pulumi.automation._server import LanguageServer
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

THREADS = 16
STOP_SECONDS = 5.0
ORPHAN_SECONDS = 2.0  # how often it looks whether its engine, which may have been killed, is still there
MAX_MESSAGE_BYTES = 400 * 2**20  # the SDK's and the engine's own limit


class Host(LanguageServer):
    """One engine operation's language host."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self._children: set[subprocess.Popen[bytes]] = set()
        self.stopped = threading.Event()

    def Handshake(
        self, request: language_pb2.LanguageHandshakeRequest, context: grpc.ServicerContext
    ) -> language_pb2.LanguageHandshakeResponse:
        """Nothing to agree on."""
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        """The version: that of the SDK this is made of."""
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def GetRequiredPackages(
        self, request: language_pb2.GetRequiredPackagesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPackagesResponse:
        """The provider plugins of the SDKs that are installed; each tells its own in a `pulumi-plugin.json`."""
        return language_pb2.GetRequiredPackagesResponse(
            packages=[
                plugin_pb2.PackageDependency(kind="resource", name=name, version=version, server=server)
                for name, version, server in required_plugins()
            ]
        )

    def GetProgramDependencies(
        self, request: language_pb2.GetProgramDependenciesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetProgramDependenciesResponse:
        """What is installed, for `pulumi about`."""
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=package.name, version=package.version)
                for package in importlib.metadata.distributions()
            ]
        )

    def RuntimeOptionsPrompts(
        self, request: language_pb2.RuntimeOptionsRequest, context: grpc.ServicerContext
    ) -> language_pb2.RuntimeOptionsResponse:
        """Nothing to ask."""
        return language_pb2.RuntimeOptionsResponse()

    def Run(self, request: language_pb2.RunRequest, context: grpc.ServicerContext) -> language_pb2.RunResponse:
        """Runs a project's `__main__.py` in this process."""
        entry = entry_point(request.info)
        os.chdir(request.pwd or request.info.program_directory)
        sys.path.insert(0, str(entry.parent))
        sys.argv = [str(entry), *request.args[1:]]

        def program() -> None:
            try:
                runpy.run_path(str(entry), run_name="__main__")
            except RunError:
                raise
            except Exception as error:
                raise RunError(f"the program failed\n{own_trace(error, entry)}") from error

        self.program = program
        response: language_pb2.RunResponse = super().Run(request, context)  # type: ignore[no-untyped-call]  # the SDK's
        # The SDK has shown the error by now; told of it again, the engine would show it a second time.
        return language_pb2.RunResponse(bail=True) if response.error else response

    def RunPlugin(
        self, request: language_pb2.RunPluginRequest, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.RunPluginResponse]:
        """Runs a plugin that is a Python program, such as a policy pack; it lives until the engine ends the call."""
        process = self._start(
            [python_of(request.info), "-u", str(entry_point(request.info)), *request.args],
            directory=request.pwd,
            environment=dict(entry.split("=", 1) for entry in request.env),
        )
        context.add_callback(process.terminate)
        for name, data in self._output(process):
            if name == "stdout":
                yield language_pb2.RunPluginResponse(stdout=data)
            else:
                yield language_pb2.RunPluginResponse(stderr=data)
        yield language_pb2.RunPluginResponse(exitcode=process.wait())

    def InstallDependencies(
        self, request: language_pb2.InstallDependenciesRequest, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.InstallDependenciesResponse]:
        """Makes the virtual environment that the project names, and installs its requirements.txt into it."""
        python = Path(python_of(request.info))
        steps = [] if python.exists() else [[sys.executable, "-m", "venv", str(python.parent.parent)]]
        if (Path(request.directory) / "requirements.txt").exists():
            steps.append([str(python), "-m", "pip", "install", "--requirement", "requirements.txt"])
        for step in steps:
            process = self._start(step, directory=request.directory, environment={})
            context.add_callback(process.terminate)
            for name, data in self._output(process):
                if name == "stdout":
                    yield language_pb2.InstallDependenciesResponse(stdout=data)
                else:
                    yield language_pb2.InstallDependenciesResponse(stderr=data)
            if process.wait() != 0:
                context.abort(
                    grpc.StatusCode.INTERNAL, f"`{' '.join(step)}` failed with exit code {process.returncode}"
                )

    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        """The engine is about to end."""
        self.stop()
        return empty_pb2.Empty()

    def stop(self) -> None:
        """Ends what was started, and lets `serve` return."""
        for process in tuple(self._children):
            process.terminate()
        self.stopped.set()

    def _start(self, command: list[str], *, directory: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        # In a session of its own: a Ctrl-C at the terminal is the engine's to handle, and it ends us when it is ready.
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._children.add(process)
        return process

    def _output(self, process: subprocess.Popen[bytes]) -> Iterator[tuple[str, bytes]]:
        """What a child writes, as ("stdout" or "stderr", bytes), until it has closed both."""
        chunks: queue.Queue[tuple[str, bytes]] = queue.Queue()

        def pump(name: str, stream: IO[bytes]) -> None:
            while data := os.read(stream.fileno(), 65536):
                chunks.put((name, data))
            chunks.put((name, b""))

        streams = [(name, stream) for name in ("stdout", "stderr") if (stream := getattr(process, name)) is not None]
        for name, stream in streams:
            threading.Thread(target=pump, args=(name, stream), daemon=True).start()
        ended = 0
        while ended < len(streams):
            name, data = chunks.get()
            if data:
                yield name, data
            else:
                ended += 1
        self._children.discard(process)


def required_plugins() -> list[tuple[str, str, str]]:
    """(name, version, download server) of each provider plugin that an installed SDK wants."""
    found = []
    for distribution in importlib.metadata.distributions():
        for file in distribution.files or ():
            if file.name == "pulumi-plugin.json":
                plugin = json.loads(file.read_text())
                if plugin.get("resource"):
                    found.append((plugin["name"], plugin.get("version", ""), plugin.get("server", "")))
    return found


def own_trace(error: Exception, entry: Path) -> str:
    """How Python shows an exception, without the calls that led to the program's first file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != str(entry):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def entry_point(info: language_pb2.ProgramInfo) -> Path:
    """The file that a program, or a plugin that is one, begins with."""
    path = Path(info.program_directory) / (info.entry_point or ".")
    return path / "__main__.py" if path.is_dir() else path


def python_of(info: language_pb2.ProgramInfo) -> str:
    """The Python of the virtual environment that a program's options name; ours without one."""
    options = dict(info.options)
    if "virtualenv" not in options:
        return sys.executable
    return str(Path(info.root_directory) / str(options["virtualenv"]) / "bin" / "python")


def serve() -> None:
    """Prints a port and serves on it until the engine ends the host."""
    host = Host()

    def end(_signal: int, _frame: FrameType | None) -> None:
        host.stop()

    # A Ctrl-C at the terminal reaches the engine too, which first lets running operations end and needs the program
    # for that; then it kills the host. SIGTERM is a person's or a system's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=THREADS),
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    engine = os.getppid()
    while not host.stopped.wait(ORPHAN_SECONDS) and os.getppid() == engine:
        pass
    host.stop()
    server.stop(STOP_SECONDS).wait()
    # The program may have left threads of its own, and the operation that they worked for is over.
    os._exit(0)


if __name__ == "__main__":
    serve()
