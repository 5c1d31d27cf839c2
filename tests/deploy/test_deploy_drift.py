"""The issue about what is there and in no stack, or in a stack and not there."""

import dataclasses

import pytest

from deploy import drift
from deploy.events import Run
from tests.deploy.logs import log

pytestmark = pytest.mark.fast

CLEAN = drift.section("onprem", Run(preview=True, ended="succeeded", sites=("hall",)))


def test_what_drifted_is_told_with_the_names_of_its_properties() -> None:
    section = drift.section("world", log("drift"))
    assert not section.clean
    assert section.text == (
        """\
### world

**Drifted**
- cellar `cellar-b`, `things:index:Thing`, is gone
- hall `hall-b`, `things:index:Thing`, was changed: `size`"""
    )


def test_the_issue_is_open_while_one_stack_drifts_and_shows_that_one() -> None:
    issue = drift.issue([CLEAN, drift.section("world", log("drift"))])
    assert issue.open
    assert "### world" in issue.body
    assert "onprem" not in issue.body


def test_the_issue_is_closed_when_all_is_as_the_stacks_say() -> None:
    issue = drift.issue([CLEAN])
    assert not issue.open
    assert issue.body.startswith(drift.MARKER)


def test_a_stack_that_could_not_be_checked_does_not_count_as_clean() -> None:
    assert "no kubeconfig" in drift.issue([drift.section("world", log("program-that-fails"))]).body
    silent = drift.section("world", dataclasses.replace(log("drift"), ended=None, operations=()))
    assert drift.issue([silent]).open
    assert "The run tells why." in silent.text
    assert drift.issue([CLEAN], missing=["world"]).open
