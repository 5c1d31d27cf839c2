"""Secrets that a stack makes itself: a word at random, made once, and told to nobody but who mounts it.

To have another one, delete the Secret, and say `pulumi up --refresh`.
"""

import base64
import secrets
from collections.abc import Mapping

import pulumi
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

# A stack whose state was lost makes a new one: it takes the place of the one that is there.
ANEW = {"pulumi.com/patchForce": "true"}
BYTES = 32


def made_once(
    resource: str,
    metadata: meta.ObjectMetaArgs,
    key: str,
    own: pulumi.ResourceOptions,
    *,
    beside: Mapping[str, str] | None = None,
) -> core.Secret:
    """A Secret with a word that nobody can guess.

    Args:
        resource: its name in the state.
        metadata: with `ANEW` among the annotations.
        key: of the word.
        own: options.
        beside: other keys, as a user's name.
    """
    data = {name: encoded(text) for name, text in (beside or {}).items()}
    return core.Secret(
        resource,
        metadata=metadata,
        data={**data, key: pulumi.Output.secret(encoded(secrets.token_urlsafe(BYTES)))},
        # The first one stays.
        opts=pulumi.ResourceOptions(parent=own.parent, ignore_changes=["data"]),
    )


def encoded(text: str) -> str:
    """A value as the data of a Secret has it."""
    return base64.b64encode(text.encode()).decode()
