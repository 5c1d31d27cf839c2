"""Runs other programs: output to a log, a time limit always, and one sentence when they fail."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.refusal import Refusal

TAIL_LINES = 15


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    log: Path,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> None:
    """Runs a command with its output appended to `log`.

    Args:
        command: the program and its arguments.
        what: what it does, as in "building the squid image"; begins the sentence if it fails.
        log: where its output goes; the last lines of it are shown if it fails.
        seconds: after this many seconds it is killed.
        environment: added to ours.
        directory: where it runs.

    Raises:
        Refusal: it failed or took too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        began = sink.tell()
        try:
            status = subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                timeout=seconds,
                check=False,
            ).returncode
        except FileNotFoundError:
            raise Refusal(
                f"{what}: the program {command[0]} is not on this machine; install it, then run again"
            ) from None
        except subprocess.TimeoutExpired:
            raise Refusal(f"{what}: gave up after {seconds:.0f} s; its output is in {log}") from None
    if status != 0:
        with log.open("rb") as written:
            written.seek(began)
            tail = written.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        raise Refusal(
            "\n".join([f"{what}: failed with exit code {status}; its output is in {log} and ends so:", *tail])
        )


def output(
    command: Sequence[str | Path],
    *,
    what: str,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """The standard output of a short command.

    Raises:
        Refusal: it failed or took too long; its standard error is in the sentence.
    """
    try:
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            env={**os.environ, **(environment or {})},
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise Refusal(f"{what}: the program {command[0]} is not on this machine; install it, then run again") from None
    except subprocess.TimeoutExpired:
        raise Refusal(f"{what}: no answer within {seconds:.0f} s") from None
    if done.returncode != 0:
        raise Refusal(f"{what}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
