"""Long-running processes, known again by process id and start time, whatever became of them or of us."""

import contextlib
import hashlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.refusal import Refusal

LAUNCH_SECONDS = 10.0
END_SECONDS = 10.0
# The shell that becomes the program writes the record first: nothing that we start is ever unknown to us, not even
# when we are killed right after. Its process id and start time stay the same through `exec`.
RECORD_AND_BECOME = """
record=$1 facts=$2; shift 2
read -r stat </proc/$$/stat
printf '%s\\n%s\\n' "$facts" "$stat" >"$record" || exit 1
exec "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process of this machine since it was booted; `started` is in clock ticks after boot."""

    pid: int
    started: int


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A program that stays.

    `reads` are the files whose content it takes at its start: with other content, other words or another program it
    is another daemon, to be started anew. `sockets` are what one that was killed leaves in the way of the next.
    """

    name: str
    command: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    directory: Path = Path("/")
    sockets: tuple[Path, ...] = ()

    def fingerprint(self) -> str:
        """A hash of all that decides what runs."""
        digest = hashlib.sha256(repr((self.command, self.directory)).encode())
        for file in self.reads:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        return digest.hexdigest()


def parse_stat(line: str) -> tuple[Process, str]:
    """The process and its state letter, from a line of /proc/<pid>/stat.

    The name in parentheses may hold anything, parentheses and spaces too.
    """
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    return Process(pid=int(head.split()[0]), started=int(fields[19])), fields[0]


def alive(pid: int) -> Process | None:
    """The process that has this id now; none if there is none or it only waits to be reaped."""
    try:
        process, state = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" else process


def everyone() -> Iterator[tuple[int, list[str]]]:
    """All processes with their command lines."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]


def boot() -> str:
    """Tells one boot of the machine from the next: start times are only unique within one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def began(process: Process) -> datetime:
    """The moment at which a process began."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    age = uptime - process.started / os.sysconf("SC_CLK_TCK")
    return datetime.now(UTC) - timedelta(seconds=age)


def recorded(record: Path) -> Process | None:
    """The process of a record if it still runs."""
    try:
        facts, stat = record.read_text().splitlines()
    except (FileNotFoundError, ValueError):
        return None
    process, _ = parse_stat(stat)
    return process if facts.split()[0] == boot() and alive(process.pid) == process else None


def all_recorded(records: Path) -> list[Process]:
    """The processes of a directory's records that still run."""
    return [process for record in records.glob("*") if (process := recorded(record)) is not None]


def runs(daemon: Daemon, records: Path) -> bool:
    """Whether this very daemon runs."""
    record = records / daemon.name
    return recorded(record) is not None and record.read_text().split()[1] == daemon.fingerprint()


def start(daemon: Daemon, records: Path, log: Path, environment: dict[str, str]) -> None:
    """Starts a daemon in a session of its own, in place of what its record names.

    Raises:
        Refusal: it could not even be launched.
    """
    record = records / daemon.name
    previous = recorded(record)
    if previous is not None:
        kill([previous])
    for stale in (record, *daemon.sockets):
        stale.unlink(missing_ok=True)
    with log.open("ab") as sink:  # appending, so that the log may be cut while it is written
        # A fork in between makes init the parent: no zombie waits here, and no Ctrl-C in our terminal reaches it.
        subprocess.run(
            ["setsid", "--fork", "/bin/sh", "-c", RECORD_AND_BECOME, "sh", record,
             f"{boot()} {daemon.fingerprint()}", *daemon.command],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=daemon.directory, umask=0o022, env=environment,
            timeout=LAUNCH_SECONDS, check=True,
        )  # fmt: skip
    deadline = time.monotonic() + LAUNCH_SECONDS
    while not (record.exists() and len(record.read_text().splitlines()) == 2):
        if time.monotonic() > deadline:
            raise Refusal(f"starting {daemon.name}: its launcher wrote no record; see {log}")
        time.sleep(0.01)


def kill(processes: Iterable[Process]) -> None:
    """Ends processes at once and waits until they are gone.

    Raises:
        Refusal: one did not go, which means that it hangs inside the kernel.
    """
    doomed = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(process.pid)
            # The handle is of one process for good, so a look after it was opened cannot be at another one.
            if alive(process.pid) == process:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                doomed.append((process, handle))
            else:
                os.close(handle)
    deadline = time.monotonic() + END_SECONDS
    try:
        for process, handle in doomed:
            ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise Refusal(
                    f"ending process {process.pid}: it hangs in the kernel; try again, or restart the machine"
                )
    finally:
        for _, handle in doomed:
            os.close(handle)
