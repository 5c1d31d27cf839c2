"""The pinned programs: that all pins agree, what is built anew when, whose program is taken, and how a build fails."""

import dataclasses
import io
import json
import os
import re
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from local import tools
from local.paths import CHECKOUT, cache_dir, state_dir
from local.progress import Progress
from local.refusal import Refusal
from local.tools import PROVIDER, TOOLS, Tool

pytestmark = pytest.mark.fast

GO = "go1.26.8"
# Writes down how it is called, and compiles each package to a program that says which one it was.
COMPILER = f"""#!/bin/sh
echo "$*" >> "$CALLS"
case "$1" in
env) echo {GO};;
build)
  while [ "$1" != -o ]; do shift; done
  place=$2
  shift 2
  for package; do
    name=${{package##*/}}
    [ "$name" = . ] && name=probe
    printf '#!/bin/sh\\necho %s\\n' "$name" > "$place/$name"
    chmod +x "$place/$name"
  done;;
esac
"""
FAILING_DOWNLOAD = f"""#!/bin/sh
echo "$*" >> "$CALLS"
[ "$1" = env ] && exec echo {GO}
echo 'go: example.com/probe@v1.2.3: dial tcp 127.0.0.1:9: connect: connection refused'
exit 1
"""
FAILING_BUILD = f"""#!/bin/sh
[ "$1" = env ] && exec echo {GO}
[ "$1" = mod ] && exit
echo './main.go:3:1: syntax error'
exit 1
"""


def told() -> Progress:
    return Progress(total=0, stream=io.StringIO())


def install(directory: Path, name: str, script: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(script)
    (directory / name).chmod(0o755)
    return directory / name


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with caches and state of its own, whose Go is a stand-in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'usr'}:/usr/bin:/bin")
    monkeypatch.setattr(tools, "DOWNLOAD_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(tools, "BUILD_DISK_BYTES", 0)
    install(tmp_path / "usr", "go", COMPILER)
    return tmp_path


def calls(machine: Path, first: str) -> int:
    """How often Go was called with that word."""
    return sum(line.startswith(first) for line in (machine / "calls").read_text().splitlines())


@pytest.fixture
def probe(tmp_path: Path) -> Tool:
    """A tool of one program, with a file beside it."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "go.mod").write_text("module probe\n\ngo 1.25.11\n\nrequire example.com/probe v1.2.3\n")
    (source / "go.sum").write_text("example.com/probe v1.2.3 h1:x=\n")
    (source / "main.go").write_text("package main\n")
    (source / "helper").write_text("#!/bin/sh\n")
    (source / "helper").chmod(0o755)
    return Tool(name="probe", pin="example.com/probe", directory=str(source), files=(source / "helper",))


# The pins.


@pytest.mark.parametrize("package", ["pulumi", "pulumi-kubernetes", "pulumi-policy"])
def test_pyproject_the_lock_files_and_what_is_installed_have_the_same_pulumi(package: str) -> None:
    pinned = tools.sdk_version(package)
    # That of the clients' benchmark holds what is compared there, and no Pulumi.
    locks = set((CHECKOUT / "requirements").glob("*.txt")) - {CHECKOUT / "requirements" / "benchmarks.txt"}
    for lock in (CHECKOUT / "requirements.txt", *locks):
        assert re.findall(rf"^{package}==(\S+)", lock.read_text(), re.MULTILINE) == [pinned], lock
    assert metadata.version(package) == pinned


def test_the_engine_is_of_the_version_of_its_sdk() -> None:
    go_mod = TOOLS["pulumi"].source / "go.mod"
    assert tools.required(go_mod, "github.com/pulumi/pulumi/pkg/v3") == tools.sdk_version("pulumi")
    assert tools.required(go_mod, "github.com/pulumi/pulumi/sdk/v3") == tools.sdk_version("pulumi")
    assert tools.pins()["pulumi"] == tools.sdk_version("pulumi")


def test_the_provider_is_of_the_version_that_its_sdk_asks_the_engine_for() -> None:
    plugin = next(
        file for file in metadata.files("pulumi-kubernetes") or () if file.name == "pulumi-plugin.json"
    )  # fmt: skip
    asked = json.loads(plugin.read_text())
    assert f"pulumi-resource-{asked['name']}" == PROVIDER
    assert tools.pins()[PROVIDER] == asked["version"] == tools.sdk_version("pulumi-kubernetes")


def test_all_of_kubernetes_is_of_one_release() -> None:
    source = TOOLS["kubernetes"].source
    release = tools.required(source / "go.mod", "k8s.io/kubernetes").removeprefix("1.")
    replacement = re.compile(r"^(?:replace|\t) ?k8s\.io/\S+ => k8s\.io/\S+ v0\.(\S+)", re.MULTILINE)
    staged = replacement.findall((source / "go.mod").read_text())
    assert len(staged) > 20
    assert set(staged) == {release}


@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
def test_each_tool_has_a_proof_of_what_it_is_made_of(tool: Tool) -> None:
    assert tool.version[0].isdigit()
    sums = (tool.source / "go.sum").read_text()
    assert f"{tool.pin} v{tools.required(tool.source / 'go.mod', tool.pin)} h1:" in sums
    assert all(need in TOOLS for need in tool.needs)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("require example.com/a v1.2.3\n", "1.2.3"),
        ("require (\n\texample.com/b v0.1.0\n\texample.com/a v1.2.3 // indirect\n)\n", "1.2.3"),
        ("require example.com/a v0.0.0-20260115033456-f47bc2d6f199\n", "0.0.0-20260115033456-f47bc2d6f199"),
    ],
    ids=["alone", "in a block", "a commit"],
)
def test_a_go_mod_tells_the_version_that_it_requires(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "go.mod").write_text(text)
    assert tools.required(tmp_path / "go.mod", "example.com/a") == found


@pytest.mark.parametrize(
    "text",
    [
        "require example.com/a/v2 v2.0.0\n",
        "replace example.com/a v1.0.0 => ../a\n",
        "// require example.com/a v1.0.0\n",
    ],
    ids=["another major version", "a replacement", "a comment"],
)
def test_what_a_go_mod_does_not_require_it_has_no_version_for(tmp_path: Path, text: str) -> None:
    (tmp_path / "go.mod").write_text(text)
    with pytest.raises(LookupError):
        tools.required(tmp_path / "go.mod", "example.com/a")


# The key of a build.


def write(name: str, text: str) -> Callable[[Tool], Tool]:
    def change(tool: Tool) -> Tool:
        (tool.source / name).write_text(text)
        return tool

    return change


@pytest.mark.parametrize(
    "change",
    [
        write("go.mod", "module probe\n\ngo 1.25.11\n\nrequire example.com/probe v1.2.4\n"),
        write("go.sum", "example.com/probe v1.2.3 h1:y=\n"),
        write("main.go", "package main // changed\n"),
        write("more.go", "package main\n"),
        lambda tool: dataclasses.replace(tool, packages=("example.com/probe/cmd/other",)),
        lambda tool: dataclasses.replace(tool, stamps={"main.version": "v{version}"}),
    ],
    ids=["pin", "proof", "source", "new source", "package", "stamp"],
)
def test_a_build_is_made_anew_when_what_goes_into_it_changes(probe: Tool, change: Callable[[Tool], Tool]) -> None:
    before = tools.key(probe, GO)
    assert tools.key(change(probe), GO) != before


def test_a_build_is_made_anew_by_another_compiler_and_else_stays(probe: Tool) -> None:
    assert tools.key(probe, GO) == tools.key(probe, GO)
    assert tools.key(probe, GO) != tools.key(probe, "go1.26.9")


def test_version_stamps_tell_the_whole_version_and_its_parts(probe: Tool) -> None:
    stamped = dataclasses.replace(probe, stamps={"a.Version": "v{version}", "a.Minor": "{minor}"})
    assert stamped.link_flags() == "-s -w -X a.Version=v1.2.3 -X a.Minor=2"


# Building.


def test_a_build_is_made_once_with_its_files_beside_it(machine: Path, probe: Tool) -> None:
    built = tools.build(probe, told())
    assert sorted(file.name for file in built.iterdir()) == ["helper", "probe"]
    assert all(os.access(file, os.X_OK) for file in built.iterdir())
    assert not (built / "probe").is_symlink(), "the engine finds its language host beside where it really lies"
    assert tools.build(probe, told()) == built
    assert calls(machine, "build") == 1


def test_a_change_of_a_file_beside_it_compiles_nothing(machine: Path, probe: Tool) -> None:
    before = tools.build(probe, told())
    (probe.source / "helper").write_text("#!/bin/sh\n# changed\n")
    after = tools.build(probe, told())
    assert "changed" in (after / "helper").read_text()
    assert "changed" not in (before / "helper").read_text(), "what runs from there keeps what it began with"
    assert calls(machine, "build") == 1


def test_a_change_of_the_pin_compiles(machine: Path, probe: Tool) -> None:
    before = tools.build(probe, told())
    (probe.source / "go.mod").write_text("module probe\n\ngo 1.25.11\n\nrequire example.com/probe v1.2.4\n")
    assert tools.build(probe, told()) != before
    assert calls(machine, "build") == 2


def test_two_that_want_the_same_build_make_it_once(machine: Path, probe: Tool) -> None:
    built: list[Path] = []
    threads = [threading.Thread(target=lambda: built.append(tools.build(probe, told()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 4
    assert len(set(built)) == 1
    assert calls(machine, "build") == 1


def test_a_build_that_failed_leaves_nothing_and_says_how_it_ended(machine: Path, probe: Tool) -> None:
    install(machine / "usr", "go", FAILING_BUILD)
    with pytest.raises(Refusal, match=r"^building probe 1\.2\.3: failed with exit code 1; its output is in") as refused:
        tools.build(probe, told())
    assert str(refused.value).endswith("./main.go:3:1: syntax error")
    assert sorted(file.name for file in (cache_dir() / "tools").iterdir()) == ["probe.lock", "probe.log"]

    install(machine / "usr", "go", COMPILER)
    assert (tools.build(probe, told()) / "probe").exists()


def test_what_a_killed_build_left_is_removed_by_the_next(machine: Path, probe: Tool) -> None:
    left = cache_dir() / "tools" / ".probe-building-abcdef"
    left.mkdir(parents=True)
    (left / "probe").write_text("half")
    tools.build(probe, told())
    assert not left.exists()


def test_the_programs_of_several_tools_come_together_in_one_directory(
    machine: Path, probe: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(probe, name="other", packages=("example.com/probe/cmd/other",), files=())
    monkeypatch.setattr(tools, "TOOLS", {"probe": dataclasses.replace(probe, needs=("other",)), "other": other})
    together = tools.ensure(told(), ["probe"])
    assert sorted(program.name for program in together.iterdir()) == ["helper", "other", "probe"]
    assert tools.ensure(told(), ["probe"]) == together
    assert (together / "probe").resolve().parent == (together / "helper").resolve().parent


# Whose program is taken.


@pytest.mark.parametrize(
    ("script", "taken"),
    [
        ("echo v3.250.0", True),
        ("echo v3.250.1", True),
        ("echo v3.1000.0", True),
        ("echo 3.260.0+dev", True),
        ("echo v3.249.9", False),
        ("echo v3.25.0", False),
        ("echo v2.300.0", False),
        ("echo v4.0.0", False),
        ("echo hello", False),
        ("echo v3.250.0; exit 1", False),
    ],
)
def test_a_pulumi_on_path_is_taken_when_it_is_new_enough(machine: Path, script: str, *, taken: bool) -> None:
    theirs = install(machine / "usr", "pulumi", f"#!/bin/sh\n{script}\n")
    engine = dataclasses.replace(TOOLS["pulumi"], sdk=None)
    assert engine.version == "3.250.0", "the table is about this pin"
    assert engine.on_path() == (theirs if taken else None)


def test_a_pulumi_on_path_that_is_no_program_is_not_taken(machine: Path) -> None:
    install(machine / "usr", "pulumi", "")
    (machine / "usr" / "pulumi").write_bytes(b"\0\0")
    assert TOOLS["pulumi"].on_path() is None


def test_a_pulumi_on_path_is_not_built_and_fetches_the_official_provider(machine: Path) -> None:
    install(machine / "usr", "pulumi", '#!/bin/sh\n[ "$1" = version ] && exec echo v3.260.0\necho "$*" >> "$CALLS"\n')
    install(machine / "usr", "kubectl", "#!/bin/sh\n")
    assert list(tools.ensure(told(), ["pulumi"]).iterdir()) == []
    assert (machine / "calls").read_text().splitlines() == [
        f"plugin install resource kubernetes {tools.sdk_version('pulumi-kubernetes')}"
    ]


def test_a_provider_that_cannot_be_fetched_is_built(machine: Path) -> None:
    install(
        machine / "usr", "pulumi", "#!/bin/sh\n[ $1 = version ] && exec echo v3.260.0\necho no network >&2; exit 1\n"
    )
    install(machine / "usr", "kubectl", "#!/bin/sh\n")
    progress = told()
    # The stand-in compiler calls what it makes of "." by the name of another probe.
    install(machine / "usr", "go", COMPILER.replace("name=probe", f"name={PROVIDER}"))
    assert list(tools.ensure(progress, ["pulumi"]).iterdir()) == []
    plugin = cache_dir() / "pulumi" / "plugins" / f"resource-kubernetes-v{TOOLS[PROVIDER].version}" / PROVIDER
    assert os.access(plugin, os.X_OK)
    assert isinstance(progress.stream, io.StringIO)
    assert "no network; building it instead" in progress.stream.getvalue()


@pytest.mark.parametrize("ours", [lambda: cache_dir() / "tools" / "bin-0123", lambda: state_dir() / "pulumi" / "bin"])
def test_a_program_of_ours_on_path_is_not_taken_for_the_users(
    machine: Path, monkeypatch: pytest.MonkeyPatch, ours: Callable[[], Path]
) -> None:
    install(ours(), "pulumi", "#!/bin/sh\necho v3.250.0\n")
    monkeypatch.setenv("PATH", f"{ours()}:{os.environ['PATH']}")
    assert TOOLS["pulumi"].on_path() is None
    theirs = install(machine / "usr", "pulumi", "#!/bin/sh\necho v3.250.0\n")
    assert TOOLS["pulumi"].on_path() == theirs


# What can be missing: one sentence each.


def refusal(tool: Tool) -> str:
    with pytest.raises(Refusal) as refused:
        tools.build(tool, told())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_go_the_sentence_says_which_one_to_install(
    machine: Path, probe: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine))
    assert refusal(probe) == (
        "probe 1.2.3 has to be built and Go is not on this machine: "
        "install Go 1.25.11 or later (https://go.dev/dl)"
    )  # fmt: skip
    assert refusal(TOOLS["pulumi"]).endswith("or later (https://go.dev/dl), or pulumi itself")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo go1.19.8", "this machine's Go is 1.19.8"),
        ("echo go1.25.10", "this machine's Go is 1.25.10"),
        ("echo go1.25rc1", "this machine's Go is 1.25"),
        (
            "printf 'go: go.mod requires go >= 1.25.11\\n(running go 1.22.1; GOTOOLCHAIN=local)\\n' >&2; exit 1",
            "this machine's Go cannot (go: go.mod requires go >= 1.25.11 (running go 1.22.1; GOTOOLCHAIN=local))",
        ),
    ],
    ids=["before toolchains", "a patch too old", "a candidate", "told to stay as it is"],
)
def test_with_a_go_that_is_too_old_the_sentence_says_so(machine: Path, probe: Tool, script: str, reason: str) -> None:
    install(machine / "usr", "go", f"#!/bin/sh\n{script}\n")
    assert refusal(probe) == (
        f"probe 1.2.3 has to be built and {reason}: install Go 1.25.11 or later (https://go.dev/dl)"
    )


@pytest.mark.parametrize("version", ["go1.25.11", "go1.26", "go1.30.2 X:nocoverageredesign", "devel go1.27-3f1e3a0"])
def test_a_newer_go_will_do(machine: Path, probe: Tool, version: str) -> None:
    install(machine / "usr", "go", COMPILER.replace(GO, f"'{version}'"))
    assert (tools.build(probe, told()) / "probe").exists()


def test_without_space_nothing_is_begun(machine: Path, probe: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "BUILD_DISK_BYTES", 2**60)
    sentence = refusal(probe)
    assert re.match(
        r"probe 1\.2\.3 has to be built and \S+ has \S+ GiB free where builds take up to 1073741824:", sentence
    )
    assert "make room" in sentence
    assert calls(machine, "build") == calls(machine, "mod") == 0


def test_a_proxy_that_is_down_is_asked_again_and_then_named(machine: Path, probe: Tool) -> None:
    install(machine / "usr", "go", FAILING_DOWNLOAD)
    progress = told()
    with pytest.raises(Refusal) as refused:
        tools.build(probe, progress)
    assert str(refused.value) == (
        "probe 1.2.3: its modules could not be downloaded (go: example.com/probe@v1.2.3: dial tcp 127.0.0.1:9: "
        "connect: connection refused): see that the proxy of `go env GOPROXY` can be reached, then run again "
        f"(what has arrived is kept; more is in {cache_dir() / 'tools' / 'probe.log'})"
    )
    assert calls(machine, "mod") == 3
    assert isinstance(progress.stream, io.StringIO)
    assert "trying again (3 of 3)" in progress.stream.getvalue()
