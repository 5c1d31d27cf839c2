"""Projects to be thrown away, and what a person does in them."""

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from local.engine import Engine
from local.paths import CHECKOUT

COMMAND_SECONDS = 300
END_SECONDS = 30
MARK = "ATLAS_SITES_TEST"
RUNTIME = {"name": "python", "options": {"toolchain": "pip", "virtualenv": sys.prefix}}


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project in a directory of its own, with the engine that works on it."""

    engine: Engine
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def directory(self) -> Path:
        return self.engine.project

    @property
    def state(self) -> Path:
        """All that is kept of its stacks."""
        return self.engine.home

    def write(self, program: str, settings: Mapping[str, object] | None = None, stack: str = "dev") -> None:
        """Writes the program, and the settings of a stack."""
        (self.directory / "__main__.py").write_text(program)
        if settings is not None:
            (self.directory / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": settings}))

    def environment(self) -> dict[str, str]:
        """What `eval "$(make -s env)"` gives a shell; marked, so that what was started in it is known again."""
        return {**os.environ, **self.engine.environment(), MARK: self.mark}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts a literal `pulumi …` as in a terminal of its own."""
        return subprocess.Popen(
            ["pulumi", *words],
            cwd=self.directory, env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def pulumi(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a literal `pulumi …`."""
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=COMMAND_SECONDS)
        finally:
            process.kill()
            process.wait()
        return process.returncode, output

    def succeeds(self, *words: str) -> str:
        """Its output, when it ended well."""
        status, output = self.pulumi(*words)
        assert status == 0, output
        return output

    def deploy(self, *words: str) -> tuple[int, str]:
        """Exit code and output of `python -m deploy`."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy", *words],
            cwd=self.directory,
            env={**self.environment(), "PYTHONPATH": str(CHECKOUT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def files(self) -> dict[str, bytes]:
        """All that is in the project's directory."""
        return {
            str(path.relative_to(self.directory)): path.read_bytes()
            for path in self.directory.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def processes(self) -> list[str]:
        """The command lines of whatever was started in its environment and has not ended."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            # One that ends meanwhile, or waits to be reaped, has none.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                if f"{MARK}={self.mark}\0".encode() in (place / "environ").read_bytes():
                    found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def left_over(self) -> list[str]:
        """Those of its processes that do not end soon by themselves."""
        deadline = time.monotonic() + END_SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left
