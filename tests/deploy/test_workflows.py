"""The workflows for GitHub: least privilege, pinned, and in step with what else the checkout says."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import __main__ as command_line, images
from local.images import block

pytestmark = pytest.mark.fast

CHECKOUT = Path(__file__).parents[2]
FILES = sorted((CHECKOUT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+){1,2}|\./\.github/workflows/[\w.-]+\.yml")
# Who may write what; all else only reads.
WRITES = {
    ("stack.yml", "stack"): {"id-token"},
    ("preview.yml", "preview"): {"id-token"},
    ("preview.yml", "comment"): {"pull-requests"},
    ("drift.yml", "check"): {"id-token"},
    ("drift.yml", "issue"): {"issues"},
    ("deploy.yml", "up"): {"id-token"},
    ("release.yml", "images"): {"contents", "packages", "id-token"},
}


def workflow(file: Path) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(file.read_text())
    return document


def test_each_job_may_write_only_what_it_writes() -> None:
    found = {}
    for file in FILES:
        assert workflow(file)["permissions"] == {}, file
        for name, job in workflow(file)["jobs"].items():
            found[file.name, name] = {what for what, right in job["permissions"].items() if right == "write"}
    assert {job: rights for job, rights in found.items() if rights} == WRITES


def test_every_action_is_pinned_by_a_commit_and_tells_its_version() -> None:
    used = [line.split("uses: ")[1] for file in FILES for line in file.read_text().splitlines() if "uses: " in line]
    assert len(used) > 10
    assert [each for each in used if not PINNED.fullmatch(each)] == []
    commits = {(each.split("@")[0], each.split("@")[1]) for each in used if "@" in each}
    assert len(commits) == len({action for action, _ in commits}), "one version of each"


def test_nothing_of_a_fork_gets_an_identity_or_a_secret() -> None:
    for file in FILES:
        triggers = workflow(file)[True]  # what YAML makes of `on`
        assert not {"pull_request_target", "workflow_run"} & set(triggers), file
        assert "secrets." not in file.read_text(), f"{file}: identities are by OIDC, and there is nothing else"
    jobs = workflow(CHECKOUT / ".github/workflows/preview.yml")["jobs"]
    assert "head.repo.full_name == github.repository" in jobs["stacks"]["if"]
    assert jobs["preview"]["needs"] == "stacks"


def test_the_job_that_may_write_a_comment_runs_what_was_reviewed() -> None:
    steps = workflow(CHECKOUT / ".github/workflows/preview.yml")["jobs"]["comment"]["steps"]
    assert steps[0]["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"


def test_no_credentials_stay_in_a_checkout() -> None:
    for file in FILES:
        for job in workflow(file)["jobs"].values():
            for step in job.get("steps", ()):
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False, file


def test_what_an_expression_gives_never_becomes_part_of_a_script() -> None:
    for file in FILES:
        for job in workflow(file)["jobs"].values():
            assert not [step["run"] for step in job.get("steps", ()) if "${{" in step.get("run", "")], file


def test_the_engine_is_the_one_that_the_checkout_pins() -> None:
    pinned = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    steps = workflow(CHECKOUT / ".github/workflows/stack.yml")["jobs"]["stack"]["steps"]
    version = next(step["with"]["pulumi-version"] for step in steps if "pulumi/actions" in step.get("uses", ""))
    assert f"pulumi=={version}" in pinned


def test_deployments_of_a_stack_follow_one_another_and_none_is_cut_short() -> None:
    job = workflow(CHECKOUT / ".github/workflows/deploy.yml")["jobs"]["up"]
    assert job["concurrency"] == {"group": "deploy-${{ matrix.stack }}", "cancel-in-progress": False}
    assert job["strategy"]["fail-fast"] is False


def test_every_command_that_a_workflow_says_exists() -> None:
    said = {word for file in FILES for word in re.findall(r"-m deploy ([a-z]+)", file.read_text())}
    known = re.search(r"\{([a-z,]+)\}", command_line.parser().format_usage())
    assert known is not None
    assert said <= set(known[1].split(","))


def test_a_release_signs_the_images_that_its_block_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {name: f"sha256:{digit * 64}" for name, digit in (("startd", "1"), ("squid", "2"), ("cvmfs", "3"))}
    printed = block("ghcr.io/o/r", {name: f"ghcr.io/o/r/{name}@{digest}" for name, digest in names.items()})
    (tmp_path / "images.yaml").write_text(printed)
    assert command_line.main(["references", "--images", str(tmp_path / "images.yaml")]) == 0
    lines = [f"{name} ghcr.io/o/r/{name}@{digest}" for name, digest in names.items()]
    assert capsys.readouterr().out.splitlines() == lines
    with pytest.raises(ValueError, match="no images: block"):
        images.references("done")
