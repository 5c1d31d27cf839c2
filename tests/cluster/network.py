"""Network namespaces beside those of pods: machines beyond the node, and such as stand in the way there."""

import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import KUBECTL_SECONDS


def run(*words: str, stdin: str | None = None) -> str:
    """What a command of this machine prints."""
    return subprocess.run(
        words, input=stdin, capture_output=True, text=True, check=True, timeout=KUBECTL_SECONDS
    ).stdout


@dataclass(frozen=True)
class Network:
    """The network namespace of a process."""

    pid: int

    def run(self, *words: str, stdin: str | None = None) -> str:
        """What a command prints that sees this network."""
        return run("nsenter", f"--net=/proc/{self.pid}/ns/net", *words, stdin=stdin)


def of_pod(uid: str) -> Network:
    """The network of a pod on this machine, which is there before any of its containers.

    Raises:
        LookupError: no process is in it.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if f"/pod{uid}/" in (entry / "cgroup").read_text():
                return Network(int(entry.name))
    raise LookupError(f"pod {uid} has no process")
