"""What stands in front of the engine: which stack is meant, the salt kept out of tracked files, what it is told."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local import engine
from local.engine import Engine, named_stack, option
from local.paths import state_dir
from local.refusal import Refusal

pytestmark = pytest.mark.fast

SALT = "v1:c2FsdHNhbHQ=:v1:bm9uY2Vub25jZQ==:Y2lwaGVydGV4dA=="
SETTINGS = """\
# What a reader of the file must know.
config:
  probe:where: here   # and why

  probe:list: [1, 2]
"""
# An engine that makes stacks, and for the rest tells what it sees and does what the test says.
STAND_IN = """#!/bin/sh
[ "$1 $2" = "stack init" ] && exec sh -c 'echo "encryptionsalt: {salt}" > Pulumi.$1.yaml
  mkdir -p "${{PULUMI_BACKEND_URL#file://}}/.pulumi/stacks/probe"
  echo "{{}}" > "${{PULUMI_BACKEND_URL#file://}}/.pulumi/stacks/probe/$1.json"' - "$3"
{act}
"""


@pytest.mark.parametrize(
    ("command", "stack"),
    [
        ("up", None),
        ("up --stack dev", "dev"),
        ("up --stack=dev", "dev"),
        ("up -s dev", "dev"),
        ("up -sdev", "dev"),
        ("up -s=dev", "dev"),
        ("--stack dev up --yes", "dev"),
        ("up --stack organization/atlas-sites/dev", "dev"),
        ("up -s someone/dev", "dev"),
        ("up --yes --skip-preview --show-sames", None),
        ("up -y -f", None),
        ("config set key -- --stack", None),
        ("up --stack", ""),
        ("stack output --json -s dev", "dev"),
    ],
)
def test_the_stack_that_a_command_names_is_found(command: str, stack: str | None) -> None:
    assert named_stack(command.split()) == stack


@pytest.mark.parametrize("word", ["-ys", "-fs", "-ysdev", "-ys=dev"])
def test_a_stack_that_hides_among_other_letters_is_asked_for_more_plainly(word: str) -> None:
    with pytest.raises(Refusal, match=f"^pulumi {word}: write --stack apart from the other options$"):
        named_stack(["up", word, "dev"])


def test_other_options_are_found_the_same_way() -> None:
    assert option(["-C", "/a", "up", "-sdev"], "C", "cwd") == "/a"
    assert option(["up", "--cwd=/b"], "C", "cwd") == "/b"
    assert option(["up"], "C", "cwd") is None


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with settings of the stack dev, on a machine with caches and state of its own; we are in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in [name for name in os.environ if name.startswith("PULUMI_")]:
        monkeypatch.delenv(name)
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "Pulumi.yaml").write_text("name: probe\nruntime: python\n")
    (directory / "Pulumi.dev.yaml").write_text(SETTINGS)
    monkeypatch.chdir(directory)
    return directory


def stand_in(project: Path, act: str = "") -> Engine:
    """An engine that does `act`, a shell script, for every command but the making of a stack."""
    binaries = project.parent / "binaries"
    binaries.mkdir(exist_ok=True)
    (binaries / "pulumi").write_text(STAND_IN.format(salt=SALT, act=act))
    (binaries / "pulumi").chmod(0o755)
    return Engine(binaries, project=project)


def pulumi(installed: Engine, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Calls the `pulumi` that the engine puts first on PATH, as a person would."""
    environment = {**os.environ, **installed.environment(), **more}
    return subprocess.run(
        [installed.home / "bin" / "pulumi", *words],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


# The salt.


def test_the_engine_sees_the_settings_with_the_salt_and_the_file_stays_as_it_is(project: Path) -> None:
    installed = stand_in(project, 'cat "$PULUMI_OPTION_CONFIG_FILE"')
    installed.prepare("dev")
    done = pulumi(installed, "preview")
    assert done.stdout == f"{SETTINGS}encryptionsalt: {SALT}\n"
    assert (project / "Pulumi.dev.yaml").read_bytes() == SETTINGS.encode()


@pytest.mark.parametrize(
    "text",
    ["", "config: {}", "config:\n  a: 1", "# only words\n", "config:\r\n  a: 1\r\n", "config:\n  a: |\n    text\n\n\n"],
    ids=["empty", "no line end", "no last line end", "a comment", "other line ends", "lines at the end"],
)
def test_whatever_is_in_the_file_it_stays_byte_for_byte(project: Path, text: str) -> None:
    # The engine writes its settings anew without changing a value.
    installed = stand_in(project, 'printf "%s\\n" "" "# rewritten" >> "$PULUMI_OPTION_CONFIG_FILE"')
    installed.prepare("dev")
    (project / "Pulumi.dev.yaml").write_bytes(text.encode())
    assert pulumi(installed, "up").returncode == 0
    installed.run("up", "--stack", "dev")
    assert (project / "Pulumi.dev.yaml").read_bytes() == text.encode()


def test_what_the_engine_sets_is_taken_back_without_the_salt(project: Path) -> None:
    installed = stand_in(project, 'sed -i "s/: here/: there/" "$PULUMI_OPTION_CONFIG_FILE"')
    installed.prepare("dev")
    pulumi(installed, "config", "set", "where", "there")
    assert (project / "Pulumi.dev.yaml").read_text() == SETTINGS.replace("here ", "there ", 1)


def test_settings_that_were_not_there_are_made_without_the_salt(project: Path) -> None:
    (project / "Pulumi.dev.yaml").unlink()
    installed = stand_in(project, 'printf "config:\\n  probe:a: b\\n" >> "$PULUMI_OPTION_CONFIG_FILE"')
    installed.prepare("dev")
    pulumi(installed, "config", "set", "a", "b")
    assert (project / "Pulumi.dev.yaml").read_text() == "config:\n  probe:a: b\n"


def test_nothing_of_the_copy_is_left(project: Path) -> None:
    installed = stand_in(project)
    installed.prepare("dev")
    pulumi(installed, "up")
    assert not list(installed.home.glob("settings-*"))


SAY = 'echo "lent ${PULUMI_OPTION_CONFIG_FILE-nothing}"'


@pytest.mark.parametrize("own", ["encryptionsalt: v1:own", "secretsprovider: gcpkms://projects/some/key"])
def test_settings_with_an_encryption_of_their_own_are_left_alone(project: Path, own: str) -> None:
    installed = stand_in(project, SAY)
    installed.prepare("dev")
    (project / "Pulumi.dev.yaml").write_text(f"{own}\n{SETTINGS}")
    assert pulumi(installed, "up").stdout == "lent nothing\n"


def test_a_stack_that_was_not_made_here_is_left_alone(project: Path) -> None:
    installed = stand_in(project, SAY)
    installed.prepare("dev")
    assert pulumi(installed, "up", "--stack", "other").stdout == "lent nothing\n"
    assert pulumi(installed, "up", PULUMI_STACK="other").stdout == "lent nothing\n"


def test_another_project_is_left_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = stand_in(project, SAY)
    installed.prepare("dev")
    other = project.parent / "other"
    (other / "deep").mkdir(parents=True)
    (other / "Pulumi.yaml").write_text("name: other\nruntime: python\n")
    (project / "deep").mkdir()
    for place, lent in ((other, False), (other / "deep", False), (project / "deep", True), (project.parent, False)):
        assert ("nothing" not in pulumi(installed, "up", "-C", str(place)).stdout) == lent
        monkeypatch.chdir(place)
        assert ("nothing" not in pulumi(installed, "up").stdout) == lent


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("config: [1\n", "is not YAML: while parsing a flow sequence"),
        ("config:\n\t- a\n", "is not YAML: while scanning for the next token"),
        ("- config\n", "holds no block of keys: it begins with `config:`"),
        ("config", "holds no block of keys"),
    ],
)
def test_settings_that_cannot_be_read_give_one_sentence(project: Path, text: str, sentence: str) -> None:
    installed = stand_in(project)
    installed.prepare("dev")
    (project / "Pulumi.dev.yaml").write_text(text)
    done = pulumi(installed, "up")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {project / 'Pulumi.dev.yaml'} {sentence}")
    assert done.stderr.count("\n") == 1
    assert (project / "Pulumi.dev.yaml").read_text() == text


# What the engine is told and tells.


def test_the_passphrase_is_made_once_and_nobody_else_can_read_it(project: Path) -> None:
    installed = stand_in(project)
    installed.prepare("dev")
    passphrase = Path(installed.environment()["PULUMI_CONFIG_PASSPHRASE_FILE"])
    before = passphrase.read_text()
    assert len(before) >= 32
    installed.prepare("dev")
    installed.prepare("second")
    assert passphrase.read_text() == before
    assert stat.S_IMODE(passphrase.stat().st_mode) == 0o600
    assert stat.S_IMODE(installed.home.stat().st_mode) == 0o700
    assert installed.home.is_relative_to(state_dir())


def test_a_stack_that_was_removed_is_made_again(project: Path) -> None:
    installed = stand_in(project, "exit 1")
    installed.prepare("dev")
    stack = installed.home / "backend/.pulumi/stacks/probe/dev.json"
    stack.unlink()
    installed.prepare("dev")
    assert stack.exists()


def test_the_users_own_passphrase_does_not_win_over_ours(project: Path) -> None:
    installed = stand_in(project, 'echo "passphrase ${PULUMI_CONFIG_PASSPHRASE-unset}"')
    installed.prepare("dev")
    assert pulumi(installed, "up", PULUMI_CONFIG_PASSPHRASE="theirs").stdout == "passphrase unset\n"


def test_asked_for_twice_the_environment_has_our_directories_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = Engine(project.parent / "cache" / "atlas-sites" / "tools" / "bin-0", project=project)
    first = installed.environment()
    monkeypatch.setenv("PATH", first["PATH"])
    assert installed.environment() == first


def test_without_any_engine_the_sentence_says_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project))
    with pytest.raises(Refusal, match=r"^pulumi is neither among the tools nor on PATH: run `make up` again$"):
        _ = Engine(project, project=project).program


def test_the_exit_code_of_the_engine_is_the_commands(project: Path) -> None:
    installed = stand_in(project, '[ "$2" = killed ] && kill -9 $$; exit 7')
    installed.prepare("dev")
    assert pulumi(installed, "up").returncode == 7
    assert pulumi(installed, "up", "killed").returncode == 128 + 9
    with pytest.raises(Refusal, match=r"^pulumi up of stack dev: failed with exit code 7; its own messages are above$"):
        installed.run("up", "--stack", "dev")


def test_words_reach_the_engine_as_they_are(project: Path) -> None:
    installed = stand_in(project, 'printf "[%s]" "$@"')
    installed.prepare("dev")
    words = ["config", "set", "key", "a b", "$HOME", "'", '"', "*", ""]
    assert pulumi(installed, *words).stdout == "".join(f"[{word}]" for word in words)


ASKED_TO_STOP = 'trap "echo stopping; exit 0" INT; echo started; while true; do sleep 0.05; done'


def test_an_engine_that_takes_too_long_is_asked_to_stop(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    installed = stand_in(project, ASKED_TO_STOP)
    installed.prepare("dev")
    with pytest.raises(Refusal, match=r"^pulumi up of stack dev: stopped after 2 s; what is above says"):
        installed.run("up", seconds=2)
    assert capfd.readouterr().out == "started\nstopping\n"


@pytest.mark.parametrize("times", [1, 2])
def test_each_ctrl_c_reaches_the_engine_once(project: Path, capfd: pytest.CaptureFixture[str], times: int) -> None:
    script = """
        heard=0
        trap 'heard=$((heard + 1)); echo $heard > heard; [ $heard = {times} ] && exit 1' INT
        touch started; while true; do sleep 0.05; done
    """
    installed = stand_in(project, script.replace("{times}", str(times)))
    installed.prepare("dev")

    def press() -> None:
        for sign in ["started", "heard"][:times]:
            while not (project / sign).exists():
                time.sleep(0.02)
            signal.raise_signal(signal.SIGINT)

    person = threading.Thread(target=press)
    person.start()
    with pytest.raises(KeyboardInterrupt):
        installed.run("up")
    person.join()
    assert (project / "heard").read_text() == f"{times}\n"


def test_an_engine_that_does_not_stop_is_killed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "STOP_SECONDS", 0.2)
    installed = stand_in(project, 'trap "" INT; echo $$ > pid; while true; do sleep 0.05; done')
    installed.prepare("dev")
    with pytest.raises(Refusal, match="stopped after"):
        installed.run("up", seconds=2)
    assert not Path("/proc", (project / "pid").read_text().strip()).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_front_lets_the_engine_end_by_itself(project: Path, number: signal.Signals) -> None:
    installed = stand_in(project, 'trap "echo stopped; exit 3" INT TERM; echo started; while true; do sleep 0.05; done')
    installed.prepare("dev")
    process = subprocess.Popen(
        [installed.home / "bin" / "pulumi", "up"],
        env={**os.environ, **installed.environment()}, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as the terminal does
    else:
        process.terminate()
    assert process.communicate(timeout=30)[0] == "stopped\n"
    assert process.returncode == 3


# Recovery.


def lock(installed: Engine, text: str) -> Path:
    path = installed.home / "backend/.pulumi/locks/organization/probe/dev/0123.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


CANCEL = """
case "$1" in
cancel) rm "${PULUMI_BACKEND_URL#file://}"/.pulumi/locks/organization/probe/dev/*;;
stack) echo '{"deployment": {}}';;
*) exit 1;;
esac
"""


def ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "text",
    [lambda: json.dumps({"pid": ended()}), lambda: json.dumps({"pid": os.getpid()}), lambda: "", lambda: "{}"],
    ids=["of one that ended", "of a number that is another program's now", "half written", "without a process"],
)
def test_a_lock_that_nobody_holds_is_released(project: Path, text: Callable[[], str]) -> None:
    installed = stand_in(project, CANCEL)
    installed.prepare("dev")
    left = lock(installed, text())
    installed.recover("dev")
    assert not left.exists()


def test_the_lock_of_an_engine_at_work_is_left_and_that_of_one_that_only_waits_to_be_reaped_is_not(
    project: Path,
) -> None:
    installed = stand_in(project, CANCEL)
    installed.prepare("dev")
    sleeper = project / "pulumi"
    sleeper.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    sleeper.chmod(0o755)
    holder = subprocess.Popen([sleeper, "600"])
    try:
        held = lock(installed, json.dumps({"pid": holder.pid}))
        with pytest.raises(
            Refusal, match=rf"^stack dev is being changed by pulumi \(process {holder.pid}\): wait for its end$"
        ):
            installed.recover("dev")
        assert held.exists()
        holder.kill()
        while Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        installed.recover("dev")
        assert not held.exists()
    finally:
        holder.kill()
        holder.wait()
