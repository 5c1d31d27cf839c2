"""The real engine with our language host: the life of a stack, its secrets, its policies, and what a stop leaves."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml
from google.protobuf import empty_pb2  # type: ignore[import-untyped]  # it has no types
from pulumi.runtime.proto import provider_pb2_grpc

from local import tools
from local.paths import CHECKOUT
from local.progress import Progress
from local.refusal import Refusal
from local.tools import PROVIDER, Tool
from tests.engine.projects import RUNTIME, Project

pytestmark = pytest.mark.engine

ROOMS = """\
import pulumi


class Room(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("probe:index:Room", name)
        self.register_outputs({})


config = pulumi.Config()
for name in config.require_object("rooms"):
    Room(name)
pulumi.export("greeting", config.get("greeting"))
pulumi.export("password", config.get_secret("password"))
"""
SETTINGS = """\
# What a reader of the file must know.
config:
  # The rooms.
  probe:rooms: [hall, cellar]
  probe:greeting: hello
"""
SECRET = "open-sesame-3141"


@pytest.fixture
def rooms(project: Project) -> Project:
    """A project of two rooms."""
    project.write(ROOMS)
    (project.directory / "Pulumi.dev.yaml").write_text(SETTINGS)
    return project


# The versions.


def test_what_was_built_tells_the_pinned_versions(rooms: Project) -> None:
    version = rooms.succeeds("version").strip().removeprefix("v")
    if tools.TOOLS["pulumi"].on_path() is None:  # else it is this machine's own, which may be newer
        assert version == tools.pins()["pulumi"]
    told = json.loads(rooms.succeeds("about", "--json"))
    plugins = {(plugin["kind"], plugin["name"]): plugin["version"] for plugin in told["plugins"]}
    assert plugins["language", "python"] == version
    assert plugins["resource", "kubernetes"] == tools.pins()[PROVIDER]
    assert told["runtime"]["executable"].startswith(sys.prefix)


def test_the_provider_itself_tells_the_pinned_version(binaries: Path) -> None:
    plugins = tools.pulumi_home() / "plugins"
    program = plugins / f"resource-kubernetes-v{tools.pins()[PROVIDER]}" / PROVIDER
    process = subprocess.Popen([program, "127.0.0.1:1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with closing(grpc.insecure_channel(f"127.0.0.1:{port}")) as channel:
            told = provider_pb2_grpc.ResourceProviderStub(channel).GetPluginInfo(empty_pb2.Empty(), timeout=30)
        assert told.version == tools.pins()[PROVIDER]
    finally:
        process.kill()
        process.communicate()


# The life of a stack.


def test_a_stack_lives_by_literal_commands_and_no_tracked_file_changes(rooms: Project) -> None:
    before = rooms.files()
    preview = rooms.succeeds("preview")
    assert "3 to create" in preview
    assert "warning" not in preview
    assert "2 created" not in rooms.succeeds("stack")
    assert "3 created" in rooms.succeeds("up", "--yes")
    assert json.loads(rooms.succeeds("stack", "output", "--json")) == {"greeting": "hello"}
    assert rooms.succeeds("stack", "output", "greeting") == "hello\n"
    assert "3 unchanged" in rooms.succeeds("up", "--yes", "--skip-preview", "--expect-no-changes")
    assert "3 deleted" in rooms.succeeds("destroy", "--yes")
    assert rooms.files() == before
    assert (rooms.state / "backend/.pulumi/stacks/probe/dev.json").is_file()


def test_what_is_edited_counts_at_once(rooms: Project) -> None:
    rooms.engine.run("up", "--yes", "--skip-preview", "--stack", "dev")
    (rooms.directory / "Pulumi.dev.yaml").write_text(SETTINGS.replace("hello", "good day"))
    rooms.engine.run("up", "--yes", "--skip-preview", "--stack", "dev")
    assert rooms.engine.output("stack", "output", "greeting", "--stack", "dev") == "good day\n"


def test_a_second_stack_has_settings_and_state_of_its_own(rooms: Project) -> None:
    rooms.engine.prepare("second")
    rooms.write(ROOMS, {"probe:rooms": ["attic"], "probe:greeting": "hi"}, stack="second")
    before = rooms.files()
    rooms.succeeds("up", "--yes", "--skip-preview", "--stack", "second")
    rooms.succeeds("up", "--yes", "--skip-preview")
    assert rooms.succeeds("stack", "output", "greeting", "-s", "second") == "hi\n"
    assert rooms.succeeds("stack", "output", "greeting") == "hello\n"
    assert rooms.files() == before


def test_a_stack_that_a_person_makes_works_too(rooms: Project) -> None:
    rooms.succeeds("stack", "init", "own", "--no-select")
    own = rooms.directory / "Pulumi.own.yaml"
    assert yaml.safe_load(own.read_text()).keys() == {"encryptionsalt"}, "it is theirs to keep with its salt"
    rooms.succeeds("config", "set", "--stack", "own", "--path", "rooms[0]", "attic")
    assert yaml.safe_load(own.read_text()).keys() == {"encryptionsalt", "config"}
    assert "2 to create" in rooms.succeeds("preview", "--stack", "own")


# Secrets.


def holding(directory: Path, text: str) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_secret_that_is_set_is_nowhere_in_plain_text_and_the_salt_not_in_the_tracked_file(rooms: Project) -> None:
    rooms.succeeds("config", "set", "--secret", "password", SECRET)
    written = (rooms.directory / "Pulumi.dev.yaml").read_text()
    assert written.startswith("# What a reader of the file must know.\n")
    assert "# The rooms.\n" in written
    settings = yaml.safe_load(written)
    assert settings.keys() == {"config"}
    assert settings["config"]["probe:password"].keys() == {"secure"}
    assert settings["config"]["probe:rooms"] == ["hall", "cellar"]

    shown = rooms.succeeds("up", "--yes", "--skip-preview")
    assert "[secret]" in shown
    assert SECRET not in shown
    assert json.loads(rooms.succeeds("stack", "output", "--json"))["password"] == "[secret]"
    assert rooms.succeeds("stack", "output", "password", "--show-secrets") == f"{SECRET}\n"
    assert rooms.succeeds("config", "get", "password") == f"{SECRET}\n"
    assert (rooms.directory / "Pulumi.dev.yaml").read_text() == written
    assert holding(rooms.directory, SECRET) == holding(rooms.state, SECRET) == []


def test_the_passphrase_is_made_once_for_this_machine(rooms: Project) -> None:
    passphrase = Path(rooms.environment()["PULUMI_CONFIG_PASSPHRASE_FILE"])
    before = passphrase.read_text()
    rooms.engine.prepare("dev")
    rooms.engine.prepare("second")
    assert passphrase.read_text() == before
    assert stat.S_IMODE(passphrase.stat().st_mode) == 0o600
    assert holding(rooms.state, before) == [passphrase]


def test_a_stack_whose_making_was_interrupted_is_made_whole_by_the_next_attempt(rooms: Project) -> None:
    salted = rooms.state / "stacks" / "Pulumi.dev.yaml"
    before = yaml.safe_load(salted.read_text())
    salted.unlink()  # as if the engine was killed after it made the stack
    rooms.engine.prepare("dev")
    assert yaml.safe_load(salted.read_text()) == before
    rooms.succeeds("config", "set", "--secret", "password", SECRET)
    rooms.succeeds("up", "--yes", "--skip-preview")


def test_a_stack_that_was_removed_is_made_again(rooms: Project) -> None:
    rooms.succeeds("stack", "rm", "--yes", "dev", "--preserve-config")
    rooms.engine.prepare("dev")
    assert "3 created" in rooms.succeeds("up", "--yes", "--skip-preview")


# What a program says when it fails.


def test_a_sentence_of_the_program_is_shown_without_a_trace_of_calls(project: Project) -> None:
    sentence = "sites[0].name is 'X'; allowed: small letters."
    project.write(f'import pulumi\nraise pulumi.RunError("{sentence}")\n')
    for command in (("preview",), ("up", "--yes")):
        status, output = project.pulumi(*command)
        assert status != 0
        assert output.count(f"    error: {sentence}\n") == 1
        assert "Traceback" not in output
        assert "File " not in output
    with pytest.raises(Refusal, match=r"^pulumi up of stack dev: failed with exit code \d+; its own messages"):
        project.engine.run("up", "--yes", "--skip-preview", "--stack", "dev")


def test_a_defect_of_the_program_is_shown_with_its_own_calls_only(project: Project) -> None:
    project.write("import helper\nhelper.divide()\n")
    (project.directory / "helper.py").write_text("def divide():\n    return 1 / 0\n")
    status, output = project.pulumi("preview")
    assert status != 0
    diagnostics = output[output.index("Diagnostics:") :]
    assert "error: the program failed" in diagnostics
    assert re.findall(r'File "(\S+)", line (\d+)', diagnostics) == [
        (str(project.directory / "__main__.py"), "2"),
        (str(project.directory / "helper.py"), "2"),
    ]
    assert "ZeroDivisionError: division by zero" in diagnostics


def test_a_missing_virtual_environment_is_told_in_one_sentence(project: Project) -> None:
    runtime = {"name": "python", "options": {"toolchain": "pip", "virtualenv": "nowhere"}}
    (project.directory / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "probe", "runtime": runtime}))
    project.write("")
    status, output = project.pulumi("preview")
    assert status != 0
    python = project.directory / "nowhere" / "bin" / "python"
    assert f"{python} is not there: make the virtual environment that Pulumi.yaml names" in output
    assert "Traceback" not in output


# Policies.

PACK = """\
from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy
from words import SENTENCE


def seen(args, report):
    if args.resource_type == "probe:index:Room":
        report(f"{args.name} is a room")


def hall(args, report):
    if args.resource_type == "probe:index:Room" and args.name != "hall":
        report(SENTENCE.format(args.name))


PolicyPack("pack", policies=[
    ResourceValidationPolicy("rooms", "Rooms are seen.", seen, EnforcementLevel.ADVISORY),
    ResourceValidationPolicy("halls", "Every room is a hall.", hall, EnforcementLevel.MANDATORY),
])
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    directory = tmp_path / "pack"
    directory.mkdir()
    (directory / "PulumiPolicy.yaml").write_text(yaml.safe_dump({"runtime": RUNTIME}))
    (directory / "__main__.py").write_text(PACK)
    (directory / "words.py").write_text('SENTENCE = "{} is no hall"\n')
    return directory


def test_an_advisory_policy_is_shown_and_a_mandatory_one_refuses(rooms: Project, pack: Path) -> None:
    for command in (("preview",), ("up", "--yes", "--skip-preview")):
        status, output = rooms.pulumi(*command, "--policy-pack", str(pack))
        assert status != 0
        assert "[advisory]  rooms" in output
        assert "[mandatory]  halls" in output
        assert "cellar is no hall" in output
    assert "Room::cellar" not in rooms.succeeds("stack", "export")

    (rooms.directory / "Pulumi.dev.yaml").write_text(SETTINGS.replace(", cellar", ""))
    output = rooms.succeeds("up", "--yes", "--skip-preview", "--policy-pack", str(pack))
    assert "hall is a room" in output
    assert "[mandatory]" not in output
    assert rooms.left_over() == []


PODS = """\
import pulumi
import pulumi_kubernetes as kubernetes

cluster = kubernetes.Provider("cluster", render_yaml_to_directory="rendered")
for privileged in pulumi.Config().require_object("privileged"):
    kubernetes.core.v1.Pod(
        f"pod-{privileged}".lower(),
        metadata={"namespace": "some"},
        spec={"containers": [{
            "name": "main",
            "image": "registry.example/main@sha256:" + 64 * "0",
            "securityContext": {"privileged": privileged},
        }]},
        opts=pulumi.ResourceOptions(provider=cluster),
    )
"""


def test_the_projects_own_pack_starts_and_refuses_a_pod_that_is_privileged(project: Project) -> None:
    project.write(PODS, {"probe:privileged": []})
    assert "atlas-sites@v" in project.succeeds("preview", "--policy-pack", str(CHECKOUT / "policies"))
    project.write(PODS, {"probe:privileged": [True]})
    status, output = project.pulumi("preview", "--policy-pack", str(CHECKOUT / "policies"))
    assert status != 0
    assert re.search(r"\[mandatory\] .*\(kubernetes:core/v1:Pod: pod-true\)", output)
    assert "Traceback" not in output


# Stopping.

THINGS = """\
import pulumi

place = pulumi.Config().require("place")


class Thing(pulumi.CustomResource):
    def __init__(self, name, opts=None):
        super().__init__("things:index:Thing", name, {"place": place}, opts)


first = Thing("first")
Thing("second", pulumi.ResourceOptions(depends_on=[first]))
"""


class Things:
    """A project of two things, one after the other, that are made when the test lets them."""

    def __init__(self, project: Project, place: Path) -> None:
        self.project = project
        self.place = place
        place.mkdir()
        project.write(THINGS, {"probe:place": str(place)})

    def wait(self, name: str) -> None:
        """Until that thing is being made."""
        deadline = time.monotonic() + 60
        while not (self.place / f"{name}.making").exists():
            assert time.monotonic() < deadline, f"nobody makes {name}"
            time.sleep(0.02)

    def let(self, *names: str) -> None:
        for name in names:
            (self.place / f"{name}.let").touch()

    def made(self) -> list[str]:
        """The things that the state knows, and none that may be there or not."""
        state = json.loads(self.project.succeeds("stack", "export"))["deployment"]
        assert not state.get("pending_operations")
        urns = [resource["urn"] for resource in state.get("resources", [])]
        return sorted(urn.rsplit("::", 1)[1] for urn in urns if "::things:index:Thing::" in urn)

    def lock(self) -> Path:
        """The lock of the engine at work."""
        (lock,) = (self.project.state / "backend/.pulumi/locks/organization/probe/dev").glob("*.json")
        return lock

    def recovers(self) -> None:
        """The next attempt makes all that is missing, and leaves nothing for a third."""
        self.let("first", "second")
        self.project.engine.recover("dev")
        self.project.succeeds("up", "--yes", "--skip-preview")
        assert self.made() == ["first", "second"]
        self.project.succeeds("preview", "--expect-no-changes")


@pytest.fixture
def things(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Things:
    plugin = tmp_path / "plugins" / "pulumi-resource-things"
    plugin.parent.mkdir()
    plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("things.py")}" "$@"\n')
    plugin.chmod(0o755)
    monkeypatch.setenv("PATH", f"{plugin.parent}:{os.environ['PATH']}")
    return Things(project, tmp_path / "place")


HEARD = "^C received; cancelling"


def await_words(process: subprocess.Popen[str], words: str) -> None:
    """Reads what it says until it says these."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"it ended and did not say {words!r}")


def test_a_ctrl_c_lets_what_is_being_made_end_and_the_next_up_goes_on(things: Things) -> None:
    process = things.project.start("up", "--yes", "--skip-preview")
    things.wait("first")
    with pytest.raises(Refusal, match=r"^stack dev is being changed by pulumi \(process \d+\): wait for its end$"):
        things.project.engine.recover("dev")
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    await_words(process, HEARD)
    things.let("first")
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "update canceled" in output
    assert "Traceback" not in output
    assert things.project.left_over() == []
    assert things.made() == ["first"]
    things.recovers()


def test_a_second_ctrl_c_ends_at_once_and_the_next_up_goes_on(things: Things) -> None:
    process = things.project.start("up", "--yes", "--skip-preview")
    things.wait("first")
    os.killpg(process.pid, signal.SIGINT)
    await_words(process, HEARD)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert things.project.left_over() == []
    things.recovers()


def test_a_ctrl_c_in_our_own_run_is_handed_to_the_engine_once(
    things: Things, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def stop() -> None:
        things.wait("first")
        signal.raise_signal(signal.SIGINT)
        while HEARD not in "".join(said):
            said.append(capfd.readouterr().out)
            time.sleep(0.05)
        things.let("first")

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(KeyboardInterrupt):
        things.project.engine.run("up", "--yes", "--skip-preview", "--stack", "dev")
    stopper.join()
    output = "".join([*said, capfd.readouterr().out])
    assert output.count("^C received") == 1
    assert "update canceled" in output
    assert things.made() == ["first"]
    things.recovers()


def test_an_engine_that_was_killed_leaves_nothing_that_the_next_up_trips_over(things: Things) -> None:
    process = things.project.start("up", "--yes", "--skip-preview")
    things.wait("first")
    os.kill(int(json.loads(things.lock().read_text())["pid"]), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert things.lock().exists(), "which would refuse the next command"
    assert things.project.left_over() == []
    things.recovers()


def test_a_ctrl_c_while_the_program_is_still_busy_leaves_no_process(project: Project) -> None:
    project.write("import pathlib, time\npathlib.Path('busy').touch()\ntime.sleep(600)\n")
    process = project.start("preview")
    while not (project.directory / "busy").exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert project.left_over() == []


# Building.


def test_a_module_proxy_that_is_down_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "go.mod").write_text("module probe\n\ngo 1.25\n\nrequire example.com/probe v1.2.3\n")
    (tmp_path / "main.go").write_text("package main\n\nfunc main() {}\n")
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tools, "DOWNLOAD_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(tools, "BUILD_DISK_BYTES", 0)
    with pytest.raises(Refusal) as refused:
        tools.build(Tool(name="probe", pin="example.com/probe", directory=str(tmp_path)), Progress(total=0))
    sentence = str(refused.value)
    assert sentence.startswith("probe 1.2.3: its modules could not be downloaded (")
    assert "connection refused" in sentence
    assert "\n" not in sentence
