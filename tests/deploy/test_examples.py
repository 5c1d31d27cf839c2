"""What examples/ shows works, on outputs that are what the schema promises."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outputs import Outputs

pytestmark = pytest.mark.fast

EXAMPLES = Path(__file__).parents[2] / "examples"
# A command, then what it prints, as the README shows them.
SHOWN = re.compile(r"```console\n\$ (.*)\n((?:.*\n)*?)```")


def recorded() -> dict[str, Any]:
    outputs: dict[str, Any] = json.loads((EXAMPLES / "outputs.json").read_text())
    return outputs


def test_the_recorded_outputs_are_what_is_promised_and_hold_no_secret() -> None:
    assert Outputs.model_validate(recorded()).model_dump(by_alias=True) == recorded()
    assert {site["cluster"]["kubeconfig"] for site in recorded()["sites"].values()} == {"[secret]"}


@pytest.mark.skipif(shutil.which("jq") is None, reason="this machine has no jq")
@pytest.mark.parametrize(("command", "printed"), SHOWN.findall((EXAMPLES / "README.md").read_text()))
def test_each_recipe_prints_what_the_readme_shows(command: str, printed: str, tmp_path: Path) -> None:
    pulumi = tmp_path / "pulumi"
    pulumi.write_text(f'#!/bin/sh\n[ "$*" = "stack output --json" ] && exec cat "{EXAMPLES}/outputs.json"\n')
    pulumi.chmod(0o755)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == printed


def cric(text: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(EXAMPLES / "cric.py")]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=False)


def test_a_record_says_of_a_site_what_the_experiment_asks() -> None:
    done = cric((EXAMPLES / "outputs.json").read_text())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["EXAMPLE-TIDE"] == {
        "name": "EXAMPLE-TIDE",
        "atlas_site": "EXAMPLE-TIDE",
        "nickname": "tide",
        "resource_type": "cloud",
        "region": "westeurope",
        "is_cvmfs": True,
        "corecount": 8,
        "maxrss": 16384,
        "maxwdir": 163840,
        "nodes": 80,
        "localqueue": "tide/startds",
    }


def test_a_record_needs_no_secret() -> None:
    outputs = recorded()
    for site in outputs["sites"].values():
        del site["cluster"]["kubeconfig"]
    assert len(runpy.run_path(str(EXAMPLES / "cric.py"))["records"](outputs)) == 2


@pytest.mark.parametrize("text", ["", "{}", '{"schemaVersion": 2, "sites": {}}', '{"schemaVersion": 1}'])
def test_what_are_no_outputs_of_that_version_is_one_sentence(text: str) -> None:
    done = cric(text)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no outputs that can be read: ")
    assert done.stderr.count("\n") == 1
