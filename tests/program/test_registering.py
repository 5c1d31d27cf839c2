"""A program's registrations are on their way before it ends (docs/adr/0015)."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pulumi
import pytest

import registering
from components.namespaces import Namespaces, NamespacesArgs
from tests.program.monitor import deploy

pytestmark = pytest.mark.fast


def outputs_waited_for(monkeypatch: pytest.MonkeyPatch, *, begun: bool) -> int:
    """How many outputs the SDK goes through at the end of a program, over all its steps."""
    waited = 0
    wait = asyncio.wait

    def counted(some: Iterable[Any], **options: Any) -> Any:
        nonlocal waited
        waited += len(list(some))
        return wait(some, **options)

    def program() -> None:
        for number in range(3):
            name = f"site-{number}"
            made = Namespaces(
                f"{name}-namespaces",
                NamespacesArgs(
                    site=name,
                    quota={"pods": "1"},
                    collector="pool.example.org:9618",
                    pool_networks=(),
                    closed_networks=(),
                ),
                pulumi.ResourceOptions(),
            )
            if begun:
                registering.begun(made)

    monkeypatch.setattr(asyncio, "wait", counted)
    assert len(deploy(program).resources) > 10
    return waited


def test_what_was_begun_is_waited_for_as_calls_and_not_as_all_outputs_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert outputs_waited_for(monkeypatch, begun=True) == 0


def test_the_sdk_still_goes_through_all_outputs_where_nothing_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not any more, `registering.begun` may go."""
    assert outputs_waited_for(monkeypatch, begun=False) > 100
