"""Lets the SDK register thousands of resources in a time that grows no faster than their number (docs/adr/0015)."""

import asyncio
import gc
from typing import TypeVar

import pulumi
from pulumi.runtime.sync_await import _sync_await

Declared = TypeVar("Declared", bound=pulumi.Resource)


def begun(resource: Declared) -> Declared:
    """The resource, once the SDK has begun to register all that was declared so far.

    A program that ends before it has begun is waited for output by output, each time through all that are left.
    """
    _sync_await(asyncio.sleep(0))
    return resource


def collect_seldom() -> None:
    """Lets Python look for garbage once in a hundred thousand objects: nearly all of a program's live until its end."""
    gc.set_threshold(100_000, 50, 50)
