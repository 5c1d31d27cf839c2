"""The dev site's pool: what it is made of, what its token is good for, and when that is renewed."""

import io
import json
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local import certificates, commands, pool
from local.pool import condor, manifests, token
from local.progress import Progress
from local.refusal import Refusal

pytestmark = pytest.mark.fast

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SCOPE = "condor:/ADVERTISE_STARTD condor:/ADVERTISE_MASTER condor:/READ"


def jwt(claims: Mapping[str, Any]) -> str:
    header, payload = (
        urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "HS256"}, claims)
    )
    return f"{header}.{payload}.signature"


def made(age: timedelta = timedelta(), **changes: Any) -> str:
    """A token of that age as condor_token_create makes it."""
    issued = int((NOW - age).timestamp())
    claims = {
        "iat": issued,
        "exp": issued + 7 * 86400,
        "iss": condor.TRUST_DOMAIN,
        "sub": condor.STARTD,
        "scope": SCOPE,
    }
    return jwt({**claims, **changes})


@pytest.mark.parametrize(
    ("age", "good"),
    [
        (timedelta(), True),
        (timedelta(days=3), True),
        (timedelta(days=3.5), True),
        (timedelta(days=3.5, seconds=1), False),
        (timedelta(days=7), False),
        (timedelta(days=30), False),
    ],
)
def test_a_token_is_renewed_once_half_of_its_life_is_over(age: timedelta, good: bool) -> None:  # noqa: FBT001
    assert token.is_good(made(age), NOW) is good


@pytest.mark.parametrize(
    "other",
    [
        made(sub="operator@pool.atlas-sites.example"),
        made(iss="elsewhere"),
        made(scope=f"{SCOPE} condor:/WRITE"),
        made(scope="condor:/READ"),
        made(exp=int(NOW.timestamp()) + 8 * 86400),
        jwt({"sub": condor.STARTD, "iss": condor.TRUST_DOMAIN, "scope": SCOPE}),
        "",
        "nonsense",
        "a.b.c",
        jwt({"exp": None}),
    ],
)
def test_a_token_that_is_not_just_what_startds_need_is_replaced(other: str) -> None:
    assert not token.is_good(other, NOW)


def test_a_token_is_asked_for_with_its_limits() -> None:
    words = token.command()
    limits = {words[place + 1] for place, word in enumerate(words) if word == "-authz"}
    assert limits == {"ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ"}
    assert int(words[words.index("-lifetime") + 1]) <= 7 * 86400


def settings() -> dict[str, str]:
    lines = [line.partition(" = ") for line in condor.configuration().splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in lines}


def test_the_startds_identity_may_advertise_startds_and_read_and_nothing_else() -> None:
    may = {name for name, value in settings().items() if name.startswith("ALLOW_") and condor.STARTD in value}
    assert may == {"ALLOW_READ", "ALLOW_ADVERTISE_STARTD", "ALLOW_ADVERTISE_MASTER"}


def test_nobody_may_anything_without_saying_who_he_is() -> None:
    said = settings()
    assert {said[f"SEC_DEFAULT_{what}"] for what in ("AUTHENTICATION", "ENCRYPTION", "INTEGRITY")} == {"REQUIRED"}
    assert said["SEC_DEFAULT_AUTHENTICATION_METHODS"] == "FS, IDTOKENS, SCITOKENS, SSL"
    assert not [name for name, value in said.items() if name.startswith("ALLOW_") and "*" in value]


def test_whoever_is_in_the_pod_is_not_a_startd_although_the_image_calls_him_so() -> None:
    assert condor.mapfile("/O=o/CN=c").splitlines() == [
        "FS startd operator@pool.atlas-sites.example",
        'SSL "/O=o/CN=c" startd@pool.atlas-sites.example',
        'SCITOKENS "https://issuer.pool.svc.cluster.local,startd" startd@pool.atlas-sites.example',
    ]


def everything(**changes: str) -> dict[str, dict[str, Any]]:
    given = {"authority": "CA", "certificate": "CERT", "key": "unique", "subject": "/CN=c", "key_uid": "uid", **changes}
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in manifests.everything("image", **given)}


def template(**changes: str) -> dict[str, Any]:
    made: dict[str, Any] = everything(**changes)["Deployment/cm"]["spec"]["template"]
    return made


def test_the_pod_needs_no_privilege() -> None:
    pod = template()["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert manifests.namespace()["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_tmp_is_not_set_group_id_for_then_nobody_could_authenticate_in_the_pod() -> None:
    assert "fsGroup" not in template()["spec"]["securityContext"]


def test_queue_history_and_what_jobs_wrote_outlive_the_container() -> None:
    pod = template()["spec"]
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    kept = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    assert {mounts["/pool"], mounts["/tmp"]} <= kept
    assert settings()["SPOOL"] == "/pool/spool"


def test_the_certificates_name_is_the_services() -> None:
    name, namespace = (
        everything()["Service/cm"]["metadata"]["name"],
        everything()["Service/cm"]["metadata"]["namespace"],
    )
    assert f"{name}.{namespace}.svc.cluster.local" in certificates.POOL.hosts
    assert f"{name}.{namespace}.svc.cluster.local:9618" == condor.ADDRESS


def test_others_get_the_authoritys_certificate_and_no_key() -> None:
    assert everything()["ConfigMap/pool-ca"]["data"] == {"ca.pem": "CA"}
    assert [name for name, item in everything().items() if "unique" in json.dumps(item.get("data"))] == []
    assert b64decode(everything()["Secret/cm-certificate"]["data"]["hostkey.pem"]) == b"unique"


@pytest.mark.parametrize(
    ("change", "restarts"),
    [({"subject": "/CN=d"}, True), ({"key_uid": "other"}, True), ({"certificate": "NEW", "key": "NEW"}, False)],
)
def test_a_pod_is_replaced_for_what_htcondor_reads_only_once(change: dict[str, str], restarts: bool) -> None:  # noqa: FBT001
    assert (template(**change) != template()) is restarts


class Answers:
    """A cluster that answers each kubectl by its first words, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, object]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.applied: list[str] = []

    def __call__(self, command: list[str], *, stdin: str | None = None, **_: object) -> str:
        words = " ".join(command[3:])
        self.asked.append(words)
        if words.startswith("apply"):
            self.applied += [item["metadata"]["name"] for item in json.loads(stdin or "{}")["items"]]
        for start, answer in self.answers.items():
            if words.startswith(start):
                return answer if isinstance(answer, str) else json.dumps(answer)
        return ""


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    certificates.directory().mkdir(parents=True)
    for file in ("ca.pem", "poolcert.pem", "poolkey.pem"):
        (certificates.directory() / file).write_text(file)
    return tmp_path / "kubeconfig"


def cluster(**secrets: object) -> Answers:
    return Answers(
        {
            "get namespace pool": {"metadata": manifests.namespace()["metadata"]},
            **{f"get secret {name.replace('_', '-')}": found for name, found in secrets.items()},
            "create": {"metadata": {"uid": "new"}},
            "exec deployment/cm -- condor_status": "Collector\nNegotiator\nScheduler\n",
            "exec deployment/cm -- condor_token_create": "fresh\n",
        }
    )


KEY = {"metadata": {"uid": "uid"}}


@pytest.mark.parametrize(
    ("secrets", "key_made", "token_made"),
    [
        ({}, True, True),
        ({"signing_key": KEY}, False, True),
        ({"signing_key": KEY, "startd_token": "good"}, False, False),
        ({"signing_key": KEY, "startd_token": "old"}, False, True),
        ({"startd_token": "good"}, True, True),
    ],
    ids=["first time", "interrupted", "all there", "half its life over", "another key"],
)
def test_key_and_token_are_made_when_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
    kubeconfig: Path,
    secrets: dict[str, object],
    key_made: bool,  # noqa: FBT001
    token_made: bool,  # noqa: FBT001
) -> None:
    now = int(datetime.now(UTC).timestamp())
    lives = {"good": made(iat=now, exp=now + 7 * 86400), "old": made(iat=now - 6 * 86400, exp=now + 86400)}
    found = {
        name: manifests.token(lives[said], "uid") if isinstance(said, str) else said for name, said in secrets.items()
    }
    answers = cluster(**found)
    monkeypatch.setattr(commands, "output", answers)
    pool.deploy(kubeconfig, {"startd": "image"}, Progress(total=1, stream=io.StringIO()))
    assert any(words.startswith("create") for words in answers.asked) is key_made
    assert ("startd-token" in answers.applied) is token_made


def test_a_namespace_of_somebody_else_is_neither_used_nor_deleted(
    monkeypatch: pytest.MonkeyPatch, kubeconfig: Path
) -> None:
    answers = Answers({"get namespace pool": {"metadata": {"name": "pool"}}})
    monkeypatch.setattr(commands, "output", answers)
    with pytest.raises(Refusal, match="namespace pool of this cluster is not the dev site's"):
        pool.deploy(kubeconfig, {"startd": "image"}, Progress(total=1, stream=io.StringIO()))
    pool.remove(kubeconfig)
    assert all(words.startswith("get") for words in answers.asked)


def test_a_pool_that_does_not_come_up_says_which_daemon_is_missing(
    monkeypatch: pytest.MonkeyPatch, kubeconfig: Path
) -> None:
    answers = Answers({**cluster(signing_key=KEY).answers, "exec deployment/cm -- condor_status": "Collector\n"})
    monkeypatch.setattr(commands, "output", answers)
    monkeypatch.setattr(pool, "JOIN_SECONDS", 0.0)
    monkeypatch.setattr(pool, "LOOK_EVERY_SECONDS", 0.0)
    with pytest.raises(Refusal, match=r"pool: Negotiator, Scheduler not seen, 0 s after .*; the logs are in /pool/log"):
        pool.deploy(kubeconfig, {"startd": "image"}, Progress(total=1, stream=io.StringIO()))
