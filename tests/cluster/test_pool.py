"""The dev site's pool on the real node: who joins, who does not, and what a payload may not do."""

import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from components.startds import StartdLimits, StartdsArgs, StartdSize, StartdTimes, VacuumPace, template
from local import certificates, pool
from local.authority import Authority, pem
from local.pool import token
from local.pool.condor import ADDRESS, PORT, STARTD, TRUST_DOMAIN
from local.progress import Progress

pytestmark = pytest.mark.cluster

NAMESPACE = "t-pool"
BY_TOKEN, BY_PROXY, STRANGER = "by-token", "by-proxy", "stranger"
WAIT_SECONDS = 120.0
NO_CLAIM_SECONDS = 3600


class Cluster(Protocol):
    """What the fixture `site` provides."""

    @property
    def kubeconfig(self) -> Path: ...

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str: ...


def eventually[Seen](look: Callable[[], Seen], what: str) -> Seen:
    """Waits for what takes its time; the bound only keeps a failure from lasting for ever."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {WAIT_SECONDS:.0f} s: {what}")
        time.sleep(1)
    return seen
