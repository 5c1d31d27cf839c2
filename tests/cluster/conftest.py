"""The real thing: a Kubernetes node on this machine, and on it the dev site, brought up as a new user would."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.paths import CHECKOUT
from local.target import Target

UP_SECONDS = 3600  # cold: everything is downloaded and built
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


@dataclass(frozen=True)
class Interrupted:
    """What a `make up` that was stopped by Ctrl-C in one of its steps said and returned."""

    step: str
    exit_code: int
    said: str


def git_status() -> str:
    """Every file of the checkout that differs from the last commit, with a hash of what differs, or is not in it."""
    words = ("git status --porcelain --untracked-files=all", "git diff HEAD | sha256sum")
    return "".join(
        subprocess.run(
            ["bash", "-c", word], cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=KUBECTL_SECONDS
        ).stdout
        for word in words
    )


def interrupt_in(step: str) -> Interrupted | None:
    """Runs `up` and presses Ctrl-C as soon as it enters the step; none if it was through before that could happen."""
    said: list[str] = []
    pressed = False
    with subprocess.Popen(
        [sys.executable, "-m", "local", "up"],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if f"] {step}: " in line and "done in" not in line and not pressed:
                os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
                pressed = True
        exit_code = process.wait(timeout=UP_SECONDS)
    return Interrupted(step, exit_code, "".join(said)) if pressed else None


STEPS = ("tools", "images", "cluster", "transport", "pool", "certificate", "site", "startds")


@pytest.fixture(scope="session")
def checkout_before() -> str:
    """What git says of the checkout before anything is brought up."""
    return git_status()


@pytest.fixture(scope="session")
def interrupted_ups(checkout_before: str) -> list[Interrupted]:
    """The steps of `make up`, each stopped once by Ctrl-C, before the `make up` that goes through."""
    del checkout_before
    return [outcome for step in STEPS if (outcome := interrupt_in(step)) is not None]


@pytest.fixture(scope="session")
def site(interrupted_ups: list[Interrupted]) -> Cluster:
    """The dev site, up; the interruptions before it are part of how it came to be."""
    del interrupted_ups
    done = subprocess.run(["make", "up"], cwd=CHECKOUT, capture_output=True, text=True, timeout=UP_SECONDS, check=False)
    if done.returncode != 0:
        pytest.fail(f"make up: {done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    target = Target.recorded()
    assert target is not None
    return Cluster(Path(target.kubeconfig))


@pytest.fixture(scope="session")
def node(site: Cluster) -> Cluster:
    """The node alone; tests that need no more than it make their own namespaces."""
    return site
