"""The cluster that the tests of this folder have in their hands."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

KUBECTL_SECONDS = 120


@dataclass(frozen=True)
class Cluster:
    """The API server of the node, by kubectl."""

    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints on standard output; with check=False both streams, whatever the exit code."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", self.kubeconfig, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            pytest.fail(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr
