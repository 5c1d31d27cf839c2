"""What the pool is in Kubernetes."""

import hashlib
from base64 import b64encode
from typing import Any

from local.certificates import POOL_HOST
from local.pool import condor

NAMESPACE = "pool"
NAME = "cm"
AUTHORITY = "pool-ca"
CERTIFICATE = "cm-certificate"
SIGNING_KEY = "signing-key"
TOKEN = "startd-token"  # noqa: S105  a Secret's name

SIGNED_BY = "atlas-sites.io/signing-key"
UID = 1000
# Where libraries look that are told of no authority, as the one that asks an issuer of SciTokens for its keys.
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
LABELS = {"app.kubernetes.io/name": NAME}
OURS = {"app.kubernetes.io/part-of": "atlas-sites"}
# A restarted container has the signing key's private copy already, and writes it again: the key never changes.
START = f"""\
install -d {condor.HOME}/log {condor.HOME}/lock {condor.HOME}/run {condor.HOME}/spool {condor.HOME}/execute
install -m 0600 {condor.SIGNING_KEY}/key {condor.HOME}/signing-key
exec condor_master -f -t"""
START_SECONDS = 120


def namespace() -> dict[str, Any]:
    """The namespace; nothing in it needs a privilege."""
    labels = {**OURS, "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def signing_key(key: str) -> dict[str, Any]:
    """What signs the pool's tokens; it can be deleted, never changed."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(SIGNING_KEY),
        "immutable": True,
        "data": _encoded({"key": key}),
    }


def token(text: str, key_uid: str) -> dict[str, Any]:
    """The startds' token, and the signing key by which it was made."""
    metadata = {**_metadata(TOKEN), "annotations": {SIGNED_BY: key_uid}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": _encoded({"token": text})}


def everything(
    image: str, *, authority: str, certificate: str, key: str, subject: str, key_uid: str
) -> list[dict[str, Any]]:
    """All but the namespace, the signing key and the token.

    Args:
        image: the startd's.
        authority: its certificate, as PEM.
        certificate: of the pool, as PEM.
        key: of that certificate, as PEM.
        subject: of the site's host certificate, in OpenSSL's form with slashes.
        key_uid: of the Secret with the signing key: another key, another pod.
    """
    configuration = {"condor.conf": condor.configuration(), "mapfile": condor.mapfile(subject)}
    digest = hashlib.sha256(repr(configuration).encode()).hexdigest()[:16]
    annotations = {"atlas-sites.io/configuration": digest, SIGNED_BY: key_uid}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(AUTHORITY), "data": {"ca.pem": authority}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(NAME), "data": configuration},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _metadata(CERTIFICATE),
            "data": _encoded({"ca.pem": authority, "hostcert.pem": certificate, "hostkey.pem": key}),
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(NAME),
            "spec": {
                "selector": LABELS,
                "ports": [{"name": "condor", "port": condor.PORT, "targetPort": "condor"}],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(NAME),
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS, "annotations": annotations}, "spec": _pod(image)},
            },
        },
    ]


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": {**LABELS, **OURS}}


def _encoded(texts: dict[str, str]) -> dict[str, str]:
    return {name: b64encode(text.encode()).decode() for name, text in texts.items()}


def _pod(image: str) -> dict[str, Any]:
    answers = ["condor_status", "-collector", "-limit", "1"]
    container = {
        "name": NAME,
        "image": image,
        "args": ["sh", "-ec", START],
        # For the tools too that are run in the container.
        "env": [{"name": "CONDOR_CONFIG", "value": f"{condor.CONFIGURATION}/condor.conf"}],
        "ports": [{"name": "condor", "containerPort": condor.PORT}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        "startupProbe": {
            "exec": {"command": answers}, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": START_SECONDS,
        },
        "readinessProbe": {"exec": {"command": answers}, "periodSeconds": 15, "timeoutSeconds": 10},
        "volumeMounts": [
            {"name": "home", "mountPath": condor.HOME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  the container's own; jobs are submitted from it
            {"name": "configuration", "mountPath": condor.CONFIGURATION, "readOnly": True},
            {"name": "certificate", "mountPath": condor.CERTIFICATES, "readOnly": True},
            {"name": "certificate", "mountPath": TRUSTED, "subPath": "ca.pem", "readOnly": True},
            {"name": "signing-key", "mountPath": condor.SIGNING_KEY, "readOnly": True},
        ],
    }  # fmt: skip
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostAliases": [{"ip": "127.0.0.1", "hostnames": [POOL_HOST]}],
        # No fsGroup: it makes /tmp set-group-id, and file system authentication refuses the directories made there.
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        # Queue, history and what jobs wrote outlive the container, not the pod.
        "volumes": [
            {"name": "home", "emptyDir": {"sizeLimit": "2Gi"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
            {"name": "configuration", "configMap": {"name": NAME}},
            {"name": "certificate", "secret": {"secretName": CERTIFICATE}},
            {"name": "signing-key", "secret": {"secretName": SIGNING_KEY}},
        ],
    }
