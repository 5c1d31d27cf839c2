"""Private copies of the pod's credentials, kept fresh.

The Secret's volume belongs to root and to a group, so its files are readable by more than one user, which programs that
handle X.509 proxies refuse; and it changes by swapping a directory, which must not be seen half-way.
"""

import json
import os
import tempfile
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reporter.fault import Fault

SECRET = Path("/etc/atlas-sites/credentials")
# Key of the Secret → place of the copy. HTCondor takes every file of its token directory for a token.
COPIES: Mapping[str, str] = {"token": "tokens/token", "proxy": "proxy", "ca.pem": "ca.pem"}


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """The credentials of one startd.

    Attributes:
        secret: the mounted Secret, whole, so that it is renewed in a running pod.
        copies: the directory of the private copies.
    """

    secret: Path
    copies: Path

    def refresh(self) -> None:
        """Copies what has changed: mode 0600, under its name only when it is complete.

        A key that vanishes from the Secret, or becomes empty, leaves its copy: a failed renewal takes nothing away.

        Raises:
            Fault: a file cannot be read or written.
        """
        try:
            for key, place in COPIES.items():
                copy = self.copies / place
                copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                content = _content(self.secret / key)
                if content and content != _content(copy):
                    _write(copy, content)
        except OSError as error:
            raise Fault(
                "CredentialUnreadable",
                f"{error.filename}: {error.strerror}; the Secret must be mounted whole and readable by the pod's group",
            ) from None

    def methods(self) -> tuple[str, ...]:
        """How this startd can prove who it is, the preferred way first; empty as long as the Secret is."""
        token, proxy = (_content(self.copies / COPIES[key]) for key in ("token", "proxy"))
        return (*([_method(token)] if token else ()), *(["SSL"] if proxy else ()))


def _method(token: bytes) -> str:
    """By which a token is shown: the pool signs its own by a secret, an issuer of SciTokens by a private key."""
    try:
        algorithm = json.loads(urlsafe_b64decode(token.partition(b".")[0] + b"=="))["alg"]
    except (ValueError, TypeError, KeyError):
        return "IDTOKENS"  # the pool will say what is wrong with it
    return "IDTOKENS" if str(algorithm).startswith("HS") else "SCITOKENS"


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""


def _write(place: Path, content: bytes) -> None:
    # mkstemp makes it 0600; HTCondor skips files whose name begins with a dot.
    handle, name = tempfile.mkstemp(prefix=".", dir=place.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(place)
