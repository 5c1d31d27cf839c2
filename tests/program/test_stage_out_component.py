"""What startds are told of a site's container: where it is and what opens it, and no secret in the state."""

import pytest

from components.stageout import Identity, StageOut, StageOutArgs
from tests.program import tree
from tests.program.monitor import Monitor, deploy

pytestmark = pytest.mark.fast

URL = "https://atlas.blob.core.windows.net/out"
MAP, ACCOUNT = "kubernetes:core/v1:ConfigMap", "kubernetes:core/v1:ServiceAccount"
CLIENT, TENANT = "00000000-0000-0000-0000-00000000000c", "00000000-0000-0000-0000-00000000000d"


def declared(secret: str | None = None, identity: Identity | None = None) -> tuple[Monitor, StageOut]:
    args = StageOutArgs(site="here", namespace="here", container=URL, secret=secret, identity=identity)
    made: list[StageOut] = []
    monitor = deploy(lambda: made.append(StageOut("here-stage-out", args)))
    return monitor, made[0]


def sources(offered: StageOut) -> list[tuple[str, object]]:
    """The kind and the rest of each, without names that are told once something is made."""
    return [(kind, rest) for source in offered.sources for kind, rest in source.items() if kind != "configMap"]


def test_a_secret_is_named_and_neither_read_nor_made() -> None:
    monitor, offered = declared(secret="their-sas")
    tree.check(monitor)
    assert monitor.one(MAP).inputs["data"] == {"container": URL}
    # Optional: a startd without it runs, and does not tell the pool that files can go out from there.
    sas = {"name": "their-sas", "items": [{"key": "sas", "path": "sas"}], "optional": True}
    assert sources(offered) == [("secret", sas)]
    assert [each.type for each in monitor.all() if each.type.startswith("kubernetes:")] == [MAP]
    assert offered.account is None


def test_an_identity_needs_no_secret_and_its_token_opens_nothing_of_the_cluster() -> None:
    monitor, offered = declared(identity=Identity(client=CLIENT, tenant=TENANT))
    tree.check(monitor)
    assert monitor.one(MAP).inputs["data"] == {"container": URL, "client": CLIENT, "tenant": TENANT}
    account = monitor.one(ACCOUNT).inputs
    assert (account["metadata"]["name"], account["automountServiceAccountToken"]) == ("startd", False)
    token = {"audience": "api://AzureADTokenExchange", "expirationSeconds": 3600, "path": "token"}
    assert sources(offered) == [("serviceAccountToken", token)]
