"""Which site a push is from: each has a write token of its own, of which the hub holds no more than a digest."""

import hashlib
import hmac
import re
from pathlib import Path


def digest(token: str) -> str:
    """What the hub holds of a token. It is random and long, so that one round of a hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


class Gate:
    """The digests, a file for each site, read anew at each push: mounted Secrets change while the hub runs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def site_of(self, authorization: str) -> str | None:
        """The site whose token a header bears; None if nobody's. All are compared, so that time tells nothing."""
        parts = re.fullmatch(r"Bearer +([!-~]+)", authorization.strip(), re.IGNORECASE)
        shown = digest(parts[1]) if parts else ""
        found = None
        for site, held in self._digests().items():
            if hmac.compare_digest(shown, held):
                found = site
        return found

    def _digests(self) -> dict[str, str]:
        held = {}
        for file in sorted(self._directory.glob("[a-z0-9]*")):
            text = file.read_text().strip()
            if re.fullmatch(r"[0-9a-f]{64}", text):
                held[file.name] = text
        return held
