"""The workflows by actionlint, which is built from its pinned module."""

import subprocess

import pytest

from local import tools
from local.paths import CHECKOUT
from local.progress import Progress

pytestmark = pytest.mark.engine


def test_actionlint_finds_nothing() -> None:
    program = tools.ensure(Progress(total=0), ["actionlint"]) / "actionlint"
    # What else may be on the machine would find other things on each.
    files = sorted((CHECKOUT / ".github/workflows").glob("*.yml"))
    assert files
    done = subprocess.run(
        [program, "-no-color", "-shellcheck=", "-pyflakes=", *files],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
