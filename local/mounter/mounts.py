"""Repositories as FUSE mounts below /cvmfs: which are there, what becomes of stale ones, and how rclone is started."""

import errno
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/cvmfs")
CACHE = Path("/var/lib/cvmfs")
DEFAULT_QUOTA_MIB = 4000  # as CERN's image
UMOUNT_SECONDS = 10.0

REPOSITORY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class Client:
    """What the environment of the container asks for.

    Attributes:
        repositories: full names.
        server_url: with @fqrn@ for the name of the repository.
        proxies: in the syntax of CVMFS_HTTP_PROXY.
        quota_mib: of the cache on disk, for all repositories together.
    """

    repositories: tuple[str, ...]
    server_url: str
    proxies: str
    quota_mib: int

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Client":
        """Reads the CVMFS_ variables.

        Raises:
            ValueError: one is missing or wrong.
        """
        names = tuple(name.strip() for name in environment.get("CVMFS_REPOSITORIES", "").split(",") if name.strip())
        if not names:
            raise ValueError("CVMFS_REPOSITORIES names no repository")
        for name in names:
            if not REPOSITORY.fullmatch(name):
                raise ValueError(f"CVMFS_REPOSITORIES: {name!r} is not the name of a repository")
        server = environment.get("CVMFS_SERVER_URL", "")
        if "@fqrn@" not in server:
            raise ValueError(f"CVMFS_SERVER_URL is {server!r}, but must hold @fqrn@ in place of the repository's name")
        quota = environment.get("CVMFS_QUOTA_LIMIT") or str(DEFAULT_QUOTA_MIB)
        if not quota.isdigit() or int(quota) < len(names):
            raise ValueError(f"CVMFS_QUOTA_LIMIT is {quota!r}, but must be a number of megabytes")
        return cls(
            repositories=names,
            server_url=server,
            proxies=environment.get("CVMFS_HTTP_PROXY", ""),
            quota_mib=int(quota),
        )

    def url(self, repository: str) -> str:
        """Where a repository comes from."""
        return self.server_url.replace("@fqrn@", repository).rstrip("/") + "/"


def mounted(repository: str, mountinfo: str) -> int:
    """How many FUSE mounts are stacked at a repository's place, by the text of /proc/self/mountinfo."""
    place = str(ROOT / repository)
    lines = [line.split(" - ", 1) for line in mountinfo.splitlines()]
    return sum(left.split()[4] == place and right.split()[0].startswith("fuse") for left, right in lines)


def now_mounted(repository: str) -> int:
    """The same, of this moment."""
    return mounted(repository, Path("/proc/self/mountinfo").read_text())


def unmount(repository: str) -> None:
    """Takes all mounts off a repository's place at once, also dead ones and those in use."""
    for _ in range(now_mounted(repository)):
        subprocess.run(
            ["umount", "--lazy", ROOT / repository], check=False, timeout=UMOUNT_SECONDS, stdin=subprocess.DEVNULL
        )


def command(client: Client, repository: str) -> list[str]:
    """The rclone that serves one repository in the foreground.

    A whole listing costs one request for each file, so listings are kept for as long as a CVMFS client keeps its
    catalogue's or longer; attributes are kept by the kernel, since an import asks for hundreds that do not change.
    """
    return [
        "rclone", "mount", ":http:", str(ROOT / repository),
        f"--http-url={client.url(repository)}", "--config=", "--read-only", "--allow-other",
        "--file-perms=0555", "--dir-perms=0555",
        "--vfs-cache-mode=full", f"--cache-dir={CACHE / repository}", "--vfs-cache-max-age=8760h",
        f"--vfs-cache-max-size={client.quota_mib // len(client.repositories)}M", "--vfs-cache-poll-interval=10s",
        "--vfs-read-chunk-size=4M", "--vfs-read-ahead=4M", "--buffer-size=1M",
        "--dir-cache-time=1h", "--attr-timeout=10m", "--poll-interval=0",
        "--checkers=16", "--contimeout=5s", "--timeout=30s", "--low-level-retries=5", "--use-mmap",
        "--log-level=NOTICE",
    ]  # fmt: skip


def look(repository: str) -> str | None:
    """Why a repository cannot be read now; none when its directory can be listed and is not empty."""
    if not now_mounted(repository):
        return f"repository {repository}: not mounted"
    try:
        with os.scandir(ROOT / repository) as entries:
            return None if any(entries) else f"repository {repository}: it is empty"
    except OSError as error:
        return f"repository {repository}: {error.strerror}"


def dead(repository: str) -> str | None:
    """Why only a new mount can help; none when the mount works, or when merely the server cannot be reached.

    A file is really read: the process behind a mount may hang while the mount is still there. An error that comes from
    the server or the squids is no reason to restart, for a restart takes away what the node has in its cache.
    """
    if not now_mounted(repository):
        return f"repository {repository}: not mounted"
    try:
        with os.scandir(ROOT / repository) as entries:
            file = next((Path(entry.path) for entry in entries if entry.is_file()), None)
        if file is not None:
            with file.open("rb") as stream:
                stream.read(1)
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ESTALE, errno.ECONNABORTED):
            return f"repository {repository}: {error.strerror}"
    return None
