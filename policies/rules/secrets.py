"""Secrets: encrypted in the state, and never where anybody who may look at a stack or a pod can read them.

The engine hands a checking policy bare values; whether one is marked as secret shows only to a remediation. So what
must be secret is made so, and what must never be there at all is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import ResourceValidationArgs, Secret, Severity

from rules import pods
from rules.pods import environment, pod_of
from rules.rule import at, kind, rule

# By which a provider logs in, for each that a stack may have.
CREDENTIALS: Mapping[str, tuple[str, ...]] = {
    "pulumi:providers:kubernetes": ("kubeconfig",),
    "pulumi:providers:azure-native": ("clientSecret", "clientCertificatePassword", "oidcToken", "oidcRequestToken"),
    "pulumi:providers:gcp": ("credentials", "accessToken", "externalCredentials"),
    "pulumi:providers:aws": ("secretKey", "token"),
}
SECRET = "Secret"  # noqa: S105  the kind
CONFIG_MAP = "ConfigMap"
# A private key in PEM form, as in the keys of Google's service accounts too; a JSON Web Token, as HTCondor's tokens and
# service-account tokens are; what the clouds themselves give in forms of their own.
_GIVEN_AWAY = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token": re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}"),
    "a client secret of Azure": re.compile(r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}(?![\w~.-])"),
    "an access token of Google": re.compile(r"\bya29\.[\w-]{20,}"),
    "an access key of AWS": re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b"),
}


def _sensitive(args: ResourceValidationArgs) -> tuple[str, ...]:
    """The properties of a resource that must be secret."""
    if args.resource_type in CREDENTIALS:
        return CREDENTIALS[args.resource_type]
    return ("data", "stringData") if kind(args) == SECRET else ()


async def _make_secret(args: ResourceValidationArgs) -> Mapping[str, Any]:
    sensitive = _sensitive(args)
    if not sensitive:
        args.not_applicable("it is about the data of Secrets and the credentials of providers")
    # Under this key of its own the SDK's view of the properties gives the values with their marks.
    marked: Mapping[str, Any] = args.props["__target"]
    bare = [key for key in sensitive if key in marked and not _is_marked(marked[key])]
    return {**marked, **{key: Secret(marked[key]) for key in bare}} if bare else {}


def _is_marked(value: object) -> bool:
    """Whether a value, or all that it holds, is marked as secret."""
    if isinstance(value, Mapping):
        return all(_is_marked(part) for part in value.values())
    return isinstance(value, Secret)


def _readable(args: ResourceValidationArgs) -> Iterator[tuple[str, str]]:
    """All text that is not protected, each with its place."""
    for key, value in at(args.props, "metadata", "annotations").items():
        yield f"annotation {key}", str(value)
    if kind(args) == CONFIG_MAP:
        for key, value in at(args.props, "data").items():
            yield f"key {key}", str(value)
        return
    for container in pod_of(args).containers():
        for key, value in environment(container):
            yield f"variable {key} of container {container['name']}", value
        for part in ("command", "args"):
            words: Sequence[Any] = container.get(part) or ()
            for word in words:
                yield f"{part} of container {container['name']}", str(word)


def _check(args: ResourceValidationArgs) -> Iterator[str]:
    for place, text in _readable(args):
        for what, looks in _GIVEN_AWAY.items():
            if looks.search(text):
                yield f"{args.name} holds {what} in clear: {place}"


RULES = (
    rule(
        name="secrets-are-secret",
        description=(
            "The data of a Secret and the credentials of a provider are encrypted in the state, "
            "and no private key, token or key of a cloud is written anywhere else."
        ),
        severity=Severity.CRITICAL,
        remedy="Put it into a Secret, and give its value as a Pulumi secret.",
        kinds=pods.KINDS | {CONFIG_MAP},
        check=_check,
        remediate=_make_secret,
    ),
)
