"""A central HTCondor pool for the dev site to join: stands in for the experiment's."""

import json
import secrets
import time
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import certificates, commands
from local.pool import manifests, token
from local.pool.manifests import NAME, NAMESPACE
from local.progress import Progress
from local.refusal import Refusal

READY_SECONDS = 240
JOIN_SECONDS = 60.0
ASK_SECONDS = 30.0
LOOK_EVERY_SECONDS = 1.0
DELETE_SECONDS = 120
DAEMONS = frozenset({"Collector", "Negotiator", "Scheduler"})  # as the collector calls them


def deploy(kubeconfig: Path, images: Mapping[str, str], progress: Progress) -> None:
    """Brings the pool up, waits until all its daemons are known, and sees to the startds' token.

    Changes nothing when all is there already and at least half of the token's life is left.

    Raises:
        Refusal: the cluster does not take it, it is not up in time, or the cluster's namespace is somebody else's.
    """
    progress.note(f"pool: {NAME} in namespace {NAMESPACE}")
    _refuse_others(kubeconfig)
    _apply(kubeconfig, manifests.namespace())
    key_uid = _signing_key(kubeconfig)
    _apply(
        kubeconfig,
        *manifests.everything(
            images["startd"],
            authority=certificates.authority_file().read_text(),
            certificate=certificates.certificate_file(certificates.POOL).read_text(),
            key=certificates.key_file(certificates.POOL).read_text(),
            subject=certificates.distinguished_name(certificates.SITE),
            key_uid=key_uid,
        ),
    )
    _kubectl(
        kubeconfig, "rollout", "status", f"deployment/{NAME}", f"--timeout={READY_SECONDS}s",
        seconds=READY_SECONDS + ASK_SECONDS,
    )  # fmt: skip
    _wait(kubeconfig)
    _token(kubeconfig, key_uid, progress)


def remove(kubeconfig: Path) -> None:
    """Takes the pool away, and its namespace with all that is in it; one that somebody else made stays."""
    if _is_others(_get(kubeconfig, "namespace", NAMESPACE)):
        return
    _kubectl(
        kubeconfig, "delete", "namespace", NAMESPACE, "--ignore-not-found", f"--timeout={DELETE_SECONDS}s",
        seconds=DELETE_SECONDS + ASK_SECONDS,
    )  # fmt: skip


def _refuse_others(kubeconfig: Path) -> None:
    """A namespace of that name that we did not make is not used."""
    if _is_others(_get(kubeconfig, "namespace", NAMESPACE)):
        raise Refusal(f"pool: namespace {NAMESPACE} of this cluster is not the dev site's; use a cluster that has none")


def _is_others(namespace: dict[str, Any] | None) -> bool:
    return namespace is not None and not manifests.OURS.items() <= namespace["metadata"].get("labels", {}).items()


def _signing_key(kubeconfig: Path) -> str:
    """Makes the key that signs tokens, if there is none; the uid of its Secret."""
    found = _get(kubeconfig, "secret", manifests.SIGNING_KEY)
    if found is None:
        # HTCondor takes this key for a C string, scrambled: of random bytes it would use those before some first one.
        made = json.dumps(manifests.signing_key(secrets.token_urlsafe(48)))
        found = json.loads(_kubectl(kubeconfig, "create", "--filename=-", "--output=json", stdin=made))
    return str(found["metadata"]["uid"])


def _token(kubeconfig: Path, key_uid: str, progress: Progress) -> None:
    """Makes a token, unless there is a good one that this key has signed."""
    found = _get(kubeconfig, "secret", manifests.TOKEN)
    if found is not None and found["metadata"].get("annotations", {}).get(manifests.SIGNED_BY) == key_uid:
        held = b64decode(found.get("data", {}).get("token", "")).decode(errors="replace")
        if token.is_good(held, datetime.now(UTC)):
            return
    fresh = _kubectl(kubeconfig, "exec", f"deployment/{NAME}", "--", *token.command()).strip()
    _apply(kubeconfig, manifests.token(fresh, key_uid))
    progress.note(f"token for startds: {', '.join(token.AUTHORIZATIONS)}, for {token.LIFE.days} days")


def _wait(kubeconfig: Path) -> None:
    """Waits until the collector knows all daemons of the pool.

    Raises:
        Refusal: it does not, in time.
    """
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        try:
            known = _kubectl(kubeconfig, "exec", f"deployment/{NAME}", "--", "condor_status", "-any", "-af", "MyType")
        except Refusal as refusal:
            state = str(refusal)
        else:
            missing = DAEMONS - set(known.split())
            if not missing:
                return
            state = f"pool: {', '.join(sorted(missing))} not seen"
        if time.monotonic() > deadline:
            raise Refusal(
                f"{state}, {JOIN_SECONDS:.0f} s after its pod was ready; the logs are in /pool/log of deployment/{NAME}"
            )
        time.sleep(LOOK_EVERY_SECONDS)


def _get(kubeconfig: Path, kind: str, name: str) -> dict[str, Any] | None:
    text = _kubectl(kubeconfig, "get", kind, name, "--ignore-not-found", "--output=json")
    found: dict[str, Any] | None = json.loads(text) if text else None
    return found


def _apply(kubeconfig: Path, *objects: dict[str, Any]) -> None:
    """Server-side, so that no annotation repeats a Secret, and labels stay that others did not set."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    _kubectl(
        kubeconfig, "apply", "--server-side", "--force-conflicts", "--field-manager=atlas-sites-pool", "--filename=-",
        stdin=text,
    )  # fmt: skip


def _kubectl(kubeconfig: Path, *words: str, seconds: float = ASK_SECONDS, stdin: str | None = None) -> str:
    return commands.output(
        ["kubectl", f"--kubeconfig={kubeconfig}", f"--namespace={NAMESPACE}", *words],
        what=f"pool: kubectl {words[0]}",
        seconds=seconds,
        stdin=stdin,
    )
