"""The kubeconfig that AKS gives, made fit for machines that nobody sits at."""

import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

# Without it kubelogin prints a code for a browser and waits, in a pipeline for ever (pulumi-azure-native#2399). The
# variable AAD_LOGIN_METHOD of whoever uses the file wins over it: workloadidentity, spn or msi. It is not read here, or
# the file in the state would be another one for each who runs `pulumi up`.
LOGIN = "azurecli"
# The client is that of the login that asks; each other login has its own, from the environment.
_REPLACED = {"--login", "-l", "--client-id"}


def unattended(encoded: str) -> str:
    """The text of a kubeconfig that never asks anybody anything, as JSON.

    Args:
        encoded: the kubeconfig as AKS gives it, in base64.

    Raises:
        ValueError: no user in it logs in by kubelogin: local accounts are enabled, or the format is another.
    """
    document: dict[str, Any] = yaml.safe_load(base64.b64decode(encoded))
    logins = [user["user"]["exec"] for user in document.get("users") or () if "exec" in (user.get("user") or {})]
    if not logins:
        raise ValueError("the kubeconfig that AKS gave does not log in by kubelogin")
    for login in logins:
        login["args"] = [*_kept(login.get("args") or ()), "--login", LOGIN]
        login["interactiveMode"] = "Never"
    return json.dumps(document, sort_keys=True)


def _kept(arguments: Sequence[str]) -> Iterator[str]:
    rest = iter(arguments)
    for argument in rest:
        if argument in _REPLACED:
            next(rest, None)
        elif argument.partition("=")[0] not in _REPLACED:
            yield argument
