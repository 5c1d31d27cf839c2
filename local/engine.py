"""The Pulumi engine of the local site: state, secrets and plugins on this machine, tracked files left alone.

The engine keeps the salt of a stack's passphrase (`encryptionsalt`) in the stack's settings, `Pulumi.<stack>.yaml`,
which is a tracked file, while the passphrase is this machine's own. So a stack that was made here is run with a copy of
that file to which the salt is added. The copy is made anew for each command, so that what is edited in the checkout
counts at once, and what a command such as `pulumi config set` changes in it is taken back. A small `pulumi` in front of
the engine does this for people too.
"""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import yaml

from local import tools
from local.paths import CHECKOUT, state_dir
from local.refusal import Refusal

SALT = "encryptionsalt"
PROVIDER = "secretsprovider"
DEFAULT_STACK = "dev"
RUN_SECONDS = 1800.0
SHORT_SECONDS = 60.0
# What an engine that was asked to stop may take: it waits for the operations that are under way.
STOP_SECONDS = 120.0


@dataclass(frozen=True)
class Engine:
    """An engine, with a backend in the state directory.

    `binaries` is the directory that `tools.ensure` gave, `project` the one that holds Pulumi.yaml.
    """

    binaries: Path
    _: KW_ONLY
    project: Path = CHECKOUT

    @property
    def home(self) -> Path:
        """What it keeps: state, passphrase, salts."""
        return state_dir() / "pulumi"

    @staticmethod
    def stacks() -> set[str]:
        """The stacks of this project whose state lies here."""
        project = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["name"]
        return {file.stem for file in (state_dir() / f"pulumi/backend/.pulumi/stacks/{project}").glob("*.json")}

    @property
    def program(self) -> Path:
        """The engine itself: ours, or else the user's.

        Raises:
            Refusal: there is neither.
        """
        found = shutil.which("pulumi", path=f"{self.binaries}{os.pathsep}{tools.foreign_path()}")
        if found is None:
            raise Refusal("pulumi is neither among the tools nor on PATH: run `make up` again")
        return Path(found)

    def environment(self, stack: str = DEFAULT_STACK) -> dict[str, str]:
        """The variables in which a literal `pulumi up` in the project works on that stack."""
        self._install_front()
        return {
            "PATH": os.pathsep.join([str(self.home / "bin"), str(self.binaries), tools.foreign_path()]),
            "PULUMI_HOME": str(tools.pulumi_home()),
            "PULUMI_BACKEND_URL": f"file://{self.home / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self.home / "passphrase"),
            "PULUMI_STACK": stack,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def prepare(self, stack: str) -> None:
        """Makes the passphrase, the backend and the stack where they are missing.

        Raises:
            Refusal: the engine cannot make the stack.
        """
        (self.home / "backend").mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        _make_once(self.home / "passphrase", secrets.token_urlsafe(32))
        stacks = self.home / "backend/.pulumi/stacks" / self._project_name()
        if self._salted(stack).exists() and (stacks / f"{stack}.json").exists():
            return
        # The engine writes the salt into the directory of Pulumi.yaml, so it makes the stack in a project of ours.
        self._salted(stack).parent.mkdir(exist_ok=True)
        project = {"name": self._project_name(), "runtime": "python"}
        (self._salted(stack).parent / "Pulumi.yaml").write_text(yaml.safe_dump(project))
        self._salted(stack).unlink(missing_ok=True)
        made = self._short("stack", "init", stack, "--no-select", directory=self._salted(stack).parent)
        if made.returncode != 0:
            # An earlier attempt was stopped between making the stack and writing down its salt.
            deployment = self._exported(stack, otherwise=made.stderr)
            salt = deployment["secrets_providers"]["state"]["salt"]
            _replace(self._salted(stack), yaml.safe_dump({SALT: salt}))

    def recover(self, stack: str, environment: Mapping[str, str] | None = None) -> None:
        """Repairs what an engine that was killed left behind, if anything: its lock, and operations without an outcome.

        Raises:
            Refusal: an engine is at work on the stack, or the repair failed.
        """
        locks = list((self.home / "backend/.pulumi/locks/organization" / self._project_name() / stack).glob("*.json"))
        for lock in locks:
            with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
                holder = int(json.loads(lock.read_text())["pid"])
                if _is_pulumi(holder):
                    raise Refusal(f"stack {stack} is being changed by pulumi (process {holder}): wait for its end")
        if locks:
            released = self._short("cancel", "--yes", "--stack", stack)
            if released.returncode != 0:
                raise Refusal(f"releasing the lock of stack {stack}: {released.stderr.strip()}")
        if self._exported(stack).get("pending_operations"):
            # What was being made may be there or not. Forgetting it is safe: the provider's server-side apply takes
            # an object that exists for its own.
            repair = ("refresh", "--yes", "--skip-preview", "--clear-pending-creates", "--stack", stack)
            self.run(*repair, environment=environment)

    def run(
        self, *words: str, environment: Mapping[str, str] | None = None, seconds: float = RUN_SECONDS
    ) -> None:  # fmt: skip
        """Runs a command in the project, its output shown; a Ctrl-C reaches the engine once and its end is waited for.

        Args:
            words: the command, as in `"up", "--yes", "--stack", "dev"`.
            environment: added to the engine's.
            seconds: after these it is asked to stop, as by Ctrl-C.

        Raises:
            Refusal: it failed or took too long.
        """
        stack = named_stack(words) or DEFAULT_STACK
        what = f"pulumi {words[0]} of stack {stack}"
        with self._settings(stack) as settings:
            try:
                with _interrupts_later():
                    # In a session of its own it gets no signal from the terminal, so none twice; nothing is asked of a
                    # person.
                    process = subprocess.Popen(
                        [self.program, *words, "--non-interactive"],
                        cwd=self.project,
                        env={**self._variables(stack), **(environment or {}), **settings},
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                _stop(process)
                raise Refusal(f"{what}: stopped after {seconds:.0f} s; what is above says what it waited for") from None
            except KeyboardInterrupt:
                _stop(process)
                raise
        if status != 0:
            raise Refusal(f"{what}: failed with exit code {status}; its own messages are above")

    def output(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """The standard output of a short command, such as `stack output --json`.

        Raises:
            Refusal: it failed or took too long.
        """
        done = self._short(*words, environment=environment)
        if done.returncode != 0:
            raise Refusal(f"pulumi {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def front(self, words: Sequence[str]) -> int:
        """Runs a person's command as the `pulumi` on PATH; the exit code.

        Raises:
            Refusal: it cannot be told which stack is meant.
        """
        stack = named_stack(words) or os.environ.get("PULUMI_STACK", DEFAULT_STACK)
        lent: AbstractContextManager[dict[str, str]] = (
            self._settings(stack) if self._is_meant(words) else nullcontext({})
        )
        process: subprocess.Popen[bytes] | None = None
        early: list[int] = []

        def pass_on(number: int, _frame: FrameType | None) -> None:
            if process is None:
                early.append(number)
            else:
                process.send_signal(number)

        with lent as settings:
            # The terminal's signals reach the engine by themselves; this process waits for what it makes of them.
            signal.signal(signal.SIGINT, _heard)
            signal.signal(signal.SIGTERM, pass_on)
            process = subprocess.Popen([self.program, *words], env={**_ours_only(os.environ), **settings})
            for number in early:
                process.send_signal(number)
            status = process.wait()
        return status if status >= 0 else 128 - status  # as a shell tells of a signal

    @contextmanager
    def _settings(self, stack: str) -> Iterator[dict[str, str]]:
        """Lends the engine a copy of the stack's settings with the salt in it; gives the variable that says so.

        A stack that was not made here, or whose file brings its own encryption, gets none.
        """
        original = self.project / f"Pulumi.{stack}.yaml"
        text = original.read_text() if original.exists() else ""
        settings = _mapping(text, original)
        if not self._salted(stack).exists() or settings.keys() & {SALT, PROVIDER}:
            yield {}
            return
        salt = f"{SALT}: {yaml.safe_load(self._salted(stack).read_text())[SALT]}"
        with tempfile.TemporaryDirectory(prefix="settings-", dir=self.home) as directory:
            copy = Path(directory) / original.name
            copy.write_text(f"{text.rstrip()}\n{salt}\n".lstrip())
            try:
                yield {"PULUMI_OPTION_CONFIG_FILE": str(copy)}
            finally:
                told = copy.read_text()
                if {key: value for key, value in _mapping(told, copy).items() if key != SALT} != settings:
                    kept = (line for line in told.splitlines(keepends=True) if not line.startswith(f"{SALT}:"))
                    original.write_text("".join(kept))

    def _is_meant(self, words: Sequence[str]) -> bool:
        """Whether a person's command is about our project: the engine takes the nearest Pulumi.yaml upwards."""
        directory = Path(option(words, "C", "cwd") or ".").resolve()
        found = (place for place in (directory, *directory.parents) if (place / "Pulumi.yaml").exists())
        return next(found, None) == self.project.resolve()

    def _salted(self, stack: str) -> Path:
        """The settings file, of the salt alone, that the engine wrote when it made the stack."""
        return self.home / "stacks" / f"Pulumi.{stack}.yaml"

    def _project_name(self) -> str:
        return str(yaml.safe_load((self.project / "Pulumi.yaml").read_text())["name"])

    def _variables(self, stack: str) -> dict[str, str]:
        return {**_ours_only(os.environ), **self.environment(stack)}

    def _short(
        self, *words: str, directory: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        stack = named_stack(words) or DEFAULT_STACK
        try:
            return subprocess.run(
                [self.program, *words, "--non-interactive"],
                cwd=directory or self.project,
                env={**self._variables(stack), **(environment or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SHORT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Refusal(f"pulumi {' '.join(words)}: no answer within {SHORT_SECONDS:.0f} s") from None

    def _exported(self, stack: str, *, otherwise: str = "") -> dict[str, Any]:
        """The stack's state.

        Raises:
            Refusal: it cannot be had; `otherwise` is the better reason, if there is one.
        """
        done = self._short("stack", "export", "--stack", stack)
        if done.returncode != 0:
            raise Refusal(f"stack {stack}: {(otherwise or done.stderr).strip()}")
        deployment: dict[str, Any] = json.loads(done.stdout)["deployment"]
        return deployment

    def _install_front(self) -> None:
        """Puts the `pulumi` for people into its directory."""
        code = "import sys; sys.path.insert(0, sys.argv[1]); from local.engine import main; main(*sys.argv[2:])"
        command = [sys.executable, "-P", "-c", code, str(CHECKOUT), str(self.binaries), str(self.project)]
        front = self.home / "bin" / "pulumi"
        front.parent.mkdir(parents=True, exist_ok=True)
        _replace(front, f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', mode=0o755)


def named_stack(words: Sequence[str]) -> str | None:
    """The stack that a command names by -s or --stack, without organization and project; none when it names none.

    Raises:
        Refusal: -s hides among other one-letter options.
    """
    named = option(words, "s", "stack")
    return None if named is None else named.rsplit("/", 1)[-1]


def option(words: Sequence[str], letter: str, name: str) -> str | None:
    """The value of a command's option; none when it is not given.

    Raises:
        Refusal: its letter hides among other one-letter options.
    """
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--":
            return None
        if word in {f"-{letter}", f"--{name}"}:
            return following
        if word.startswith(f"--{name}="):
            return word.removeprefix(f"--{name}=")
        if word.startswith(f"-{letter}"):
            return word.removeprefix(f"-{letter}").removeprefix("=")
        if word.startswith("-") and not word.startswith("--") and letter in word.split("=")[0]:
            raise Refusal(f"pulumi {word}: write --{name} apart from the other options")
    return None


def main(binaries: str, project: str, *words: str) -> NoReturn:
    """What the `pulumi` on PATH runs."""
    try:
        sys.exit(Engine(Path(binaries), project=Path(project)).front(words))
    except Refusal as refusal:
        sys.exit(f"error: {refusal}")


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """A Ctrl-C in the block counts at its end: amid the start of a process it would leave one that nobody waits for."""
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        signal.raise_signal(signal.SIGINT)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks an engine to stop and waits; a Ctrl-C meanwhile, like the time's end, makes it stop at once."""
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGKILL):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(STOP_SECONDS)
            return


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Keeps Python alive through a Ctrl-C; unlike SIG_IGN, a handler is not handed on to a child."""


def _ours_only(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the variable that would win over our passphrase file."""
    return {name: value for name, value in environment.items() if name != "PULUMI_CONFIG_PASSPHRASE"}


def _is_pulumi(pid: int) -> bool:
    """Whether that process is an engine at work: neither one that ended nor another program that got its number."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.removesuffix(" (deleted)") == "pulumi"
    except OSError:
        return False


def _mapping(text: str, path: Path) -> dict[str, Any]:
    """What a settings file holds.

    Raises:
        Refusal: it is not a YAML mapping.
    """
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise Refusal(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise Refusal(f"{path} holds no block of keys: it begins with `config:`")
    return found


def _make_once(path: Path, text: str) -> None:
    """Writes a private file, whole or not at all, unless it is there."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-") as fresh:  # mode 0600
        fresh.write(text)
        fresh.flush()
        with contextlib.suppress(FileExistsError):
            os.link(fresh.name, path)


def _replace(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Writes a file in one step, so that nobody reads half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.replace(path)
