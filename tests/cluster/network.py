"""Network namespaces beside those of pods: machines beyond the node, and such as stand in the way there."""

import subprocess
from dataclasses import dataclass

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
