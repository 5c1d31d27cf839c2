"""The token by which startds join: what it may be good for, and when it is time for another."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from local.pool.condor import STARTD, TRUST_DOMAIN

AUTHORIZATIONS = ("ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ")
LIFE = timedelta(days=7)


def command() -> list[str]:
    """What makes one, beside the signing key."""
    limits = [word for authorization in AUTHORIZATIONS for word in ("-authz", authorization)]
    return ["condor_token_create", "-identity", STARTD, "-lifetime", str(int(LIFE.total_seconds())), *limits]


def claims(token: str) -> dict[str, Any]:
    """What a token says of itself.

    Raises:
        ValueError: it is no token.
    """
    try:
        _, payload, _ = token.strip().split(".")
        said: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        said["exp"] - said["iat"], said["sub"], said["iss"], said["scope"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a token of HTCondor ({error})") from None
    return said


def is_good(token: str, now: datetime) -> bool:
    """Whether it is for a startd, for no more than a startd may do, and has at least half of its life before it."""
    try:
        said: Mapping[str, Any] = claims(token)
    except ValueError:
        return False
    return (
        said["sub"] == STARTD
        and said["iss"] == TRUST_DOMAIN
        and set(said["scope"].split()) == {f"condor:/{authorization}" for authorization in AUTHORIZATIONS}
        and said["exp"] - said["iat"] <= LIFE.total_seconds()
        and said["exp"] - now.timestamp() >= (said["exp"] - said["iat"]) / 2
    )
