"""The table of sites and what became of each."""

import dataclasses

import pytest

from deploy import outcome
from deploy.events import Run
from tests.deploy.logs import log

pytestmark = pytest.mark.fast


def test_a_site_that_fails_has_its_reason_and_the_others_are_ready() -> None:
    assert outcome.table(log("up-that-fails")) == (
        """\
SITE      CREATED   UPDATED   REPLACED   DELETED   WHAT BECAME OF IT
cellar    3         -         -          -         ready
hall      1         -         -          -         failed: hall-squid-a: quota of 10 vCPUs exceeded
hall-b    3         -         -          -         ready
(stack)   1         -         -          -         ready"""
    )


def test_a_preview_says_what_would_change_and_what_a_policy_forbids() -> None:
    assert outcome.table(log("preview")) == (
        """\
SITE     CREATE   UPDATE   REPLACE   DELETE   WHAT BECAME OF IT
cellar   -        1        -         -        failed: cellar-squid-a: things-are-small
hall     -        -        1         -        would change
hall-b   -        -        -         3        would change"""
    )


def test_a_site_whose_cluster_cannot_be_reached_is_in_the_table() -> None:
    lines = outcome.table(log("program-that-fails")).splitlines()
    assert lines[1] == "cellar    -        -        -         -        failed: no kubeconfig."


def test_with_one_site_meant_the_others_are_left_out() -> None:
    assert [line.split()[0] for line in outcome.table(log("up-that-mends"), "hall").splitlines()] == ["SITE", "hall"]


def test_after_a_stop_nobody_is_called_ready() -> None:
    table = outcome.table(dataclasses.replace(log("up-that-mends"), ended="canceled"))
    assert table.count("not finished") == 3
    assert "ready" not in table


def test_a_stack_without_sites_is_an_empty_table() -> None:
    assert len(outcome.table(Run(preview=False, ended="succeeded")).splitlines()) == 1
