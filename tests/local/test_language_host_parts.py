"""The language host by itself: started as the engine starts it, asked by its protocol, ended in each way."""

import json
import os
import platform
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # it has no types
import pytest
from google.protobuf import empty_pb2, struct_pb2  # type: ignore[import-untyped]  # it has no types
from pulumi.runtime.proto import language_pb2
from pulumi.runtime.proto.language_pb2_grpc import LanguageRuntimeStub as Host

from local import language_host
from local.tools import TOOLS

pytestmark = pytest.mark.fast

END_SECONDS = 30


def beside(place: Path) -> Path:
    """The program that the engine starts, with the host beside it as in a build."""
    for file in TOOLS["pulumi"].files:
        shutil.copy(file, place)
    return place / "pulumi-language-python"


@pytest.fixture
def starter(tmp_path: Path) -> Path:
    return beside(tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose virtual environment is the one that runs the tests."""
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "Pulumi.yaml").write_text(
        f"name: probe\nruntime:\n  name: python\n  options:\n    virtualenv: {sys.prefix}  # ours\n"
    )
    return directory


@contextmanager
def running(starter: Path, directory: Path) -> Iterator[tuple[subprocess.Popen[str], Host]]:
    """A host at work and a client of it."""
    process = subprocess.Popen(
        [sys.executable, starter, "127.0.0.1:1"], cwd=directory, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout is not None
    try:
        with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
            yield process, Host(channel)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def info(directory: Path, **options: str) -> language_pb2.ProgramInfo:
    told = struct_pb2.Struct()
    told.update(options)
    return language_pb2.ProgramInfo(
        root_directory=str(directory), program_directory=str(directory), entry_point=".", options=told
    )


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host for those tests that only ask."""
    place = tmp_path_factory.mktemp("host")
    with running(beside(place), place) as (_, asked):
        yield asked


def test_it_says_what_it_is_and_which_python_and_packages_a_program_gets(host: Host) -> None:
    assert host.Handshake(language_pb2.LanguageHandshakeRequest()) is not None
    assert host.GetPluginInfo(empty_pb2.Empty()).version == metadata.version("pulumi")
    assert host.About(language_pb2.AboutRequest()).version == platform.python_version()
    installed = host.GetProgramDependencies(language_pb2.GetProgramDependenciesRequest()).dependencies
    assert ("pulumi", metadata.version("pulumi")) in [(package.name, package.version) for package in installed]
    assert not host.RuntimeOptionsPrompts(language_pb2.RuntimeOptionsRequest()).prompts


def test_it_asks_for_the_plugins_of_the_sdks_that_are_installed(host: Host) -> None:
    packages = host.GetRequiredPackages(language_pb2.GetRequiredPackagesRequest()).packages
    assert ("resource", "kubernetes", metadata.version("pulumi-kubernetes")) in [
        (package.kind, package.name, package.version) for package in packages
    ]


PLUGIN = """\
import json, os, sys, helper
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ["MARK"], sys.prefix]), flush=True)
print("trouble", file=sys.stderr)
sys.exit(helper.CODE)
"""


def test_a_plugin_that_is_a_python_program_runs_to_its_end(host: Host, project: Path, tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__main__.py").write_text(PLUGIN)
    (pack / "helper.py").write_text("CODE = 9\n")
    request = language_pb2.RunPluginRequest(
        pwd=str(project),
        args=["127.0.0.1:1"],
        env=["MARK=a=b"],
        info=info(pack, virtualenv=sys.prefix),
        kind="analyzer",
    )
    answers = list(host.RunPlugin(request))
    told = b"".join(answer.stdout for answer in answers if answer.HasField("stdout"))
    assert json.loads(told) == [["127.0.0.1:1"], str(project), "a=b", sys.prefix]
    assert b"".join(answer.stderr for answer in answers if answer.HasField("stderr")) == b"trouble\n"
    assert [answer.exitcode for answer in answers if answer.HasField("exitcode")] == [9]


STAYS = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"


def gone(pid: int) -> bool:
    """Whether a process ends soon."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def staying(host: Host, project: Path) -> tuple[int, grpc.Call]:
    """Starts a plugin that stays; its process id and the call."""
    (project / "__main__.py").write_text(STAYS)
    call = host.RunPlugin(language_pb2.RunPluginRequest(pwd=str(project), info=info(project, virtualenv=sys.prefix)))
    return int(next(call).stdout), call


def test_a_plugin_ends_when_the_engine_ends_the_call(host: Host, project: Path) -> None:
    plugin, call = staying(host, project)
    call.cancel()
    assert gone(plugin)
    assert host.GetPluginInfo(empty_pb2.Empty()).version, "the host stays"


def test_told_that_the_engine_ends_it_ends_with_its_plugins(starter: Path, project: Path) -> None:
    with running(starter, project) as (process, host):
        plugin, call = staying(host, project)
        host.Cancel(empty_pb2.Empty())
        assert process.wait(END_SECONDS) == 0
        assert gone(plugin)
        call.cancel()


def test_terminated_it_ends_with_its_plugins(starter: Path, project: Path) -> None:
    with running(starter, project) as (process, host):
        plugin, call = staying(host, project)
        process.terminate()
        assert process.wait(END_SECONDS) == 0
        assert gone(plugin)
        call.cancel()


def test_a_ctrl_c_is_the_engines_to_handle(starter: Path, project: Path) -> None:
    with running(starter, project) as (process, host):
        plugin, call = staying(host, project)
        process.send_signal(signal.SIGINT)
        assert host.GetPluginInfo(empty_pb2.Empty()).version
        assert process.poll() is None
        assert Path("/proc", str(plugin)).exists()
        call.cancel()


def test_it_outlives_its_engine_only_briefly(starter: Path, project: Path) -> None:
    (project / "__main__.py").write_text(STAYS)
    engine = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.Popen([{str(starter)!r}]); input()"],
        cwd=project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert engine.stdin is not None
    assert engine.stdout is not None
    with engine.stdin, engine.stdout, grpc.insecure_channel(f"127.0.0.1:{int(engine.stdout.readline())}") as channel:
        plugin, call = staying(Host(channel), project)
        engine.kill()
        engine.wait()
        assert gone(plugin)
        assert list(engine.stdout) == [], "the host has closed it, so it has ended too"
        call.cancel()


def test_dependencies_that_cannot_be_installed_are_told_with_their_own_messages(host: Host, project: Path) -> None:
    (project / "requirements.txt").write_text("not a requirement\n")
    request = language_pb2.InstallDependenciesRequest(directory=str(project), info=info(project, virtualenv=sys.prefix))
    answers: list[language_pb2.InstallDependenciesResponse] = []
    with pytest.raises(grpc.RpcError) as failed:
        answers.extend(host.InstallDependencies(request))
    assert b"Invalid requirement" in b"".join(answer.stderr for answer in answers)
    assert failed.value.code() == grpc.StatusCode.INTERNAL
    assert failed.value.details().endswith("-m pip install --requirement requirements.txt` failed with exit code 1")


def test_without_the_virtual_environment_the_sentence_says_which_one(starter: Path, project: Path) -> None:
    (project / "Pulumi.yaml").write_text("name: a\nruntime:\n  name: python\n  options:\n    virtualenv: nowhere\n")
    done = subprocess.run([starter], cwd=project, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {project}/nowhere/bin/python is not there: make the virtual environment that Pulumi.yaml names\n"
    )


@pytest.mark.parametrize(
    ("options", "python"),
    [
        ("", "ours"),
        ("    virtualenv: .venv\n", ".venv"),
        ("    virtualenv: '.venv'\n", ".venv"),
        ('    toolchain: pip\n    virtualenv: ".venv"   # words\n', ".venv"),
        ("    virtualenv: /somewhere/else\n", "/somewhere/else"),
        ("    # virtualenv: .venv\n", "ours"),
    ],
)
def test_the_host_runs_in_the_python_of_the_nearest_project(
    starter: Path, tmp_path: Path, options: str, python: str
) -> None:
    top = tmp_path / "top"
    (top / "deep" / "deeper").mkdir(parents=True)
    (top / "Pulumi.yaml").write_text(f"name: a\nruntime:\n  name: python\n  options:\n    typechecker: mypy\n{options}")
    expected = sys.executable if python == "ours" else str(top / python / "bin" / "python")
    assert runpy.run_path(str(starter))["interpreter"](top / "deep" / "deeper") == expected


def test_a_program_begins_with_its_main_file(tmp_path: Path) -> None:
    assert language_host.entry_point(info(tmp_path)) == tmp_path / "__main__.py"
    (tmp_path / "start.py").touch()
    single = language_pb2.ProgramInfo(program_directory=str(tmp_path), entry_point="start.py")
    assert language_host.entry_point(single) == tmp_path / "start.py"


def test_a_plugin_without_an_environment_of_its_own_gets_ours(tmp_path: Path) -> None:
    assert language_host.python_of(info(tmp_path)) == sys.executable
    assert language_host.python_of(info(tmp_path, virtualenv="../.venv")) == f"{tmp_path}/../.venv/bin/python"


def test_it_needs_nothing_of_the_project(starter: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    asked = [sys.executable, "-P", "-c", "import sys; sys.path.insert(0, '.'); import language_host"]
    subprocess.run(asked, cwd=tmp_path, env=environment, timeout=60, check=True)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("def inner():\n    1 / 0\ninner()\n", ["in <module>", "in inner", "ZeroDivisionError: division by zero"]),
        ("def\n", ["SyntaxError: invalid syntax"]),
    ],
)
def test_what_a_program_did_wrong_is_shown_from_its_own_first_line(tmp_path: Path, text: str, lines: list[str]) -> None:
    entry = tmp_path / "__main__.py"
    entry.write_text(text)
    with pytest.raises((ZeroDivisionError, SyntaxError)) as failed:
        runpy.run_path(str(entry), run_name="__main__")
    trace = language_host.own_trace(failed.value, entry)
    assert all(line in trace for line in lines)
    assert "runpy" not in trace
    assert trace.count("  File ") == len(lines) - ("SyntaxError" not in trace)
