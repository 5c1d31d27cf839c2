"""A kubeconfig file reduced to what reaches one cluster, as text that means the same on every machine.

Reads files; declares nothing. Merged lists of files (`a:b` in KUBECONFIG) are not read: a stack names one file.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

# Keys that name a file beside the kubeconfig, and the keys that hold the same inline.
_CLUSTER_FILES = {"certificate-authority": "certificate-authority-data"}
_USER_FILES = {"client-certificate": "client-certificate-data", "client-key": "client-key-data"}
_TOKEN_FILE = "tokenFile"  # noqa: S105  the key


class KubeconfigError(Exception):
    """One sentence, without its full stop: which file, what is wrong with it, what to do."""


@dataclass(frozen=True, kw_only=True)
class Kubeconfig:
    """Access to one cluster."""

    content: str = field(repr=False)
    context: str


# Leads to no cluster: a provider that is given it says so for each of its objects, and fails.
NOWHERE = Kubeconfig(content=json.dumps({"apiVersion": "v1", "kind": "Config"}), context="")


def read(path: Path, context: str | None) -> Kubeconfig:
    """The access that one context of a file gives, without the file's other clusters and users.

    Args:
        path: the file.
        context: of that file; its current one by default.

    Raises:
        KubeconfigError: there is no such file or context, or what the context refers to is missing.
    """
    document = _document(path)
    wanted = context or document.get("current-context")
    if not wanted:
        raise KubeconfigError(f"{path} has no current context: name one of {_names(document, 'contexts')}")
    chosen = _entry(document, "contexts", wanted, path)
    cluster = _entry(document, "clusters", chosen["context"].get("cluster"), path)
    user = _entry(document, "users", chosen["context"].get("user"), path)
    small = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": wanted,
        "contexts": [chosen],
        "clusters": [{**cluster, "cluster": _inline(cluster["cluster"], _CLUSTER_FILES, path)}],
        "users": [{**user, "user": _with_token(_inline(user["user"], _USER_FILES, path), path)}],
    }
    return Kubeconfig(content=json.dumps(small, sort_keys=True), context=wanted)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise KubeconfigError(f"{path} does not exist: name the cluster's kubeconfig file") from None
    except OSError as error:
        raise KubeconfigError(f"{path} cannot be read ({error.strerror}): make it readable to you alone") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise KubeconfigError(f"{path} is not YAML: name the cluster's kubeconfig file") from None
    if not isinstance(document, dict) or document.get("kind") != "Config":
        raise KubeconfigError(f"{path} is not a kubeconfig file: its kind is not Config")
    return document


def _entries(document: dict[str, Any], section: str) -> Iterator[dict[str, Any]]:
    """The entries of a section that have a form that kubectl understands."""
    entries = document.get(section)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get(section.removesuffix("s")), dict):
            yield entry


def _names(document: dict[str, Any], section: str) -> str:
    return ", ".join(str(entry.get("name")) for entry in _entries(document, section)) or "none"


def _entry(document: dict[str, Any], section: str, name: object, path: Path) -> dict[str, Any]:
    for entry in _entries(document, section):
        if entry.get("name") == name:
            return entry
    raise KubeconfigError(f"{path} has no {section.removesuffix('s')} {name!r}; it has {_names(document, section)}")


def _inline(entry: dict[str, Any], files: dict[str, str], path: Path) -> dict[str, Any]:
    """The entry with each file that it names put in its place; what is inline already wins, as for kubectl."""
    whole = dict(entry)
    for by_name, by_value in files.items():
        name = whole.pop(by_name, None)
        if name and not whole.get(by_value):
            whole[by_value] = base64.b64encode(_beside(path, by_name, name)).decode()
    return whole


def _with_token(user: dict[str, Any], path: Path) -> dict[str, Any]:
    """The user with the token that a file holds put in its place; the file wins, as for kubectl."""
    whole = dict(user)
    name = whole.pop(_TOKEN_FILE, None)
    if name:
        whole["token"] = _beside(path, _TOKEN_FILE, name).decode(errors="replace").strip()
    return whole


def _beside(path: Path, key: str, name: object) -> bytes:
    """The content of a file that a kubeconfig names; relative names count from its directory."""
    try:
        return (path.parent / str(name)).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{path} names the {key} {name}, which cannot be read ({error.strerror})") from None
