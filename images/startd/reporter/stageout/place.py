"""Where the site lets payloads put what they made, and by what it proves itself there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stageout.fault import Exit, Fault

# What the pod template mounts: `container` (a URL), and either `sas`, or `client`, `tenant` and `token`.
OFFERED = Path("/etc/atlas-sites/stage-out")
URL = re.compile(r"(https://[^/?#\s]+(?:/[^/?#\s]+)*)/([a-z0-9-]+)")


def offered(directory: Path = OFFERED) -> bool:
    """Whether there is all that a stage-out needs; not whether the storage lets it in."""
    return (directory / "container").exists() and any((directory / name).exists() for name in ("sas", "token"))


@dataclass(frozen=True, kw_only=True)
class Place:
    """A container of Azure Blob.

    Attributes:
        endpoint: the URL of its account.
        container: its name there.
        secrets: what rclone needs to be let in, as variables of its environment, where other users cannot read them.
    """

    endpoint: str
    container: str
    secrets: Mapping[str, str]

    @classmethod
    def read(cls, offered: Path = OFFERED) -> "Place":
        """What the site says now; a renewed secret is there without a new pod.

        Raises:
            Fault: the site offers nothing, or something that cannot be.
        """
        if not (offered / "container").exists():
            raise Fault(Exit.WRONG, "this site offers no stage-out: take a site whose startds say HasStageOut")
        url = _text(offered / "container")
        parts = URL.fullmatch(url)
        if parts is None:
            raise Fault(Exit.WRONG, f"{offered}/container is {url!r}, not https://ACCOUNT/CONTAINER: correct the stack")
        return cls(endpoint=parts[1], container=parts[2], secrets=_secrets(offered, url))

    def url(self, path: str) -> str:
        """Of what lies there."""
        return f"{self.endpoint}/{self.container}/{path}"


def _secrets(offered: Path, url: str) -> Mapping[str, str]:
    if not (offered / "token").exists():
        return {"RCLONE_CONFIG_OUT_SAS_URL": f"{url}?{_text(offered / 'sas').removeprefix('?')}"}
    return {
        "RCLONE_CONFIG_OUT_ENV_AUTH": "true",
        "RCLONE_CONFIG_OUT_ENDPOINT": url.rpartition("/")[0],
        # Else each other kind of identity that Azure knows is tried before it is told that this one does not do.
        "AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential",
        "AZURE_CLIENT_ID": _text(offered / "client"),
        "AZURE_TENANT_ID": _text(offered / "tenant"),
        "AZURE_FEDERATED_TOKEN_FILE": str(offered / "token"),
    }


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        raise Fault(Exit.DENIED, f"{file} cannot be read: see that the site's Secret for stage-out has it") from None
