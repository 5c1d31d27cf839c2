"""The cluster that the tests of this folder have in their hands."""

import itertools
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

# Bounds only keep a failure from lasting for ever: what comes before what is seen, never reckoned.
WAIT_SECONDS = 600
BOUND = f"--timeout={WAIT_SECONDS}s"
KUBECTL_SECONDS = WAIT_SECONDS + 60
STATE_SECONDS = 60
STATE_EVENTS = 25
STATE_CHARACTERS = 6000

T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """The API server of the node, by kubectl."""

    kubeconfig: Path

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints on standard output; with check=False both streams, whatever the exit code."""
        try:
            done = self._run(words, stdin, KUBECTL_SECONDS)
        except subprocess.TimeoutExpired as late:
            pytest.fail(f"{late}\n{self.state(_namespace(words))}")
        if check and done.returncode != 0:
            waited = f"\n{self.state(_namespace(words))}" if BOUND in words else ""
            pytest.fail(f"kubectl {' '.join(words)}: {done.stderr.strip()}{waited}")
        return done.stdout if check else done.stdout + done.stderr

    @contextmanager
    def forwarded(self, namespace: str, service: str, port: int) -> Iterator[httpx.Client]:
        """A Service as who may forward ports reaches it, by any port of this machine that is free."""
        words = ["kubectl", "--kubeconfig", str(self.kubeconfig), "-n", namespace, "port-forward", f"service/{service}"]
        with subprocess.Popen([*words, f":{port}"], stdout=subprocess.PIPE, text=True) as forwarding:
            assert forwarding.stdout is not None
            line = forwarding.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
            assert found, f"no port is forwarded: {line}"
            try:
                with httpx.Client(base_url=f"http://localhost:{found[1]}", trust_env=False, timeout=20) as client:
                    yield client
            finally:
                forwarding.terminate()
                forwarding.wait(30)

    def eventually(self, look: Callable[[], T], what: str, namespace: str = "default") -> T:
        """What is looked for, once it is there.

        Args:
            look: what it gives is there as soon as it is true.
            what: is looked for.
            namespace: whose pods may tell why it does not come.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while not (seen := look()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {WAIT_SECONDS} s: {what}; last seen: {seen!r}\n{self.state(namespace)}")
            time.sleep(0.5)
        return seen

    def state(self, namespace: str) -> str:
        """A namespace's pods and what befell them last, for those who read why a wait was in vain."""
        said = [f"load of the machine: {' '.join(f'{load:.1f}' for load in os.getloadavg())}"]
        for words in (("get", "pods", "-o", "wide"), ("get", "events", "--sort-by=.lastTimestamp")):
            try:
                done = self._run(("-n", namespace, *words), None, STATE_SECONDS)
                head, *lines = (done.stdout + done.stderr).splitlines() or [""]
                said += [f"kubectl -n {namespace} {' '.join(words)}:", head, *lines[-STATE_EVENTS:]]
            except subprocess.TimeoutExpired:
                said.append(f"kubectl {' '.join(words)}: no answer")
        return "\n".join(said)[:STATE_CHARACTERS]

    def _run(self, words: Sequence[str], stdin: str | None, seconds: float) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["kubectl", "--kubeconfig", self.kubeconfig, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


def _namespace(words: Sequence[str]) -> str:
    """That the words speak of."""
    return next((name for word, name in itertools.pairwise(words) if word == "-n"), "default")
