"""The programs that turn a Containerfile into an image archive, and push one: docker, podman, or buildah.

A container engine is taken where one answers and the public base image can be had through it. Else buildah builds the
same Containerfiles, without an engine, over a base of the same contents that mmdebstrap makes of Debian packages.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from local import commands, packages
from local.paths import CHECKOUT, cache_dir
from local.progress import Progress
from local.refusal import Refusal

PUBLIC_BASE = "docker.io/library/debian:trixie-slim"
SUITE = "trixie"
MIRROR = "http://deb.debian.org"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SOURCES = (
    f"deb {MIRROR}/debian {SUITE} main",
    f"deb {MIRROR}/debian {SUITE}-updates main",
    f"deb {MIRROR}/debian-security {SUITE}-security main",
)
# As in the public slim image: no documentation, no translations. The options for apt and dpkg stay in the image.
BOOTSTRAP = (
    "--variant=minbase",
    "--include=ca-certificates,tini",
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Retries "3"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    # mmdebstrap leaves copies of this machine's.
    '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
    # What differs from run to run.
    '--customize-hook=rm -rf "$1"/var/log/apt "$1"/var/log/*.log "$1"/var/cache/ldconfig "$1"/var/cache/debconf/*-old',
)
PROGRAMS = {
    "/usr/bin/buildah": "buildah",
    "/usr/bin/mmdebstrap": "mmdebstrap",
    str(KEYRING): "debian-archive-keyring",
}
BASE_CONTAINERFILE = CHECKOUT / "images" / "base" / "Containerfile"

ANSWER_SECONDS = 10.0
PULL_SECONDS = 120.0
BOOTSTRAP_SECONDS = 900.0
BUILD_SECONDS = 1800.0
TRANSFER_SECONDS = 900.0
LOOK_SECONDS = 60.0


class Builder(Protocol):
    """What builds and pushes images."""

    def build(self, containerfile: Path, context: Path, reference: str, archive: Path, log: Path) -> None:
        """Builds an image, tags it, and writes it as a Docker archive.

        Raises:
            Refusal: the build failed; the end of its output is in the sentence.
        """

    def push(self, archive: Path, reference: str, destination: str, *, secure: bool) -> str:
        """Pushes the image that an archive holds under `reference`; the digest it has in the registry.

        Raises:
            Refusal: it was not taken; the last line of the message gives the program's reason.
        """


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A container engine with Docker's command line."""

    name: str

    def build(self, containerfile: Path, context: Path, reference: str, archive: Path, log: Path) -> None:
        """See Builder."""
        steps: tuple[tuple[str | Path, ...], ...] = (
            ("build", f"--build-arg=BASE={PUBLIC_BASE}", "--tag", reference, "--file", containerfile, context),
            ("save", "--output", archive, reference),
        )
        for words in steps:
            commands.run(
                [self.name, *words],
                what=f"image {reference}: {self.name} {words[0]}",
                log=log,
                seconds=BUILD_SECONDS,
                environment={"DOCKER_BUILDKIT": "1"},
            )

    def push(self, archive: Path, reference: str, destination: str, *, secure: bool) -> str:
        """See Builder. Docker takes plain HTTP from the loopback by itself; podman has to be told."""
        plain = ["--tls-verify=false"] if self.name == "podman" and not secure else []
        self._output("load", "--input", archive)
        self._output("tag", reference, destination)
        self._output("push", *plain, destination)
        told = self._output("image", "inspect", "--format", "{{json .RepoDigests}}", destination)
        repository = destination.rpartition(":")[0]
        digests = [entry.partition("@")[2] for entry in json.loads(told) if entry.startswith(f"{repository}@")]
        if not digests:
            raise Refusal(f"{self.name} does not tell the digest of {destination}")
        return str(digests[-1])

    def _output(self, *words: str | Path) -> str:
        return commands.output([self.name, *words], what=f"{self.name} {words[0]}", seconds=TRANSFER_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Buildah:
    """Builds without an engine, in a storage of our own."""

    storage: Path

    def build(self, containerfile: Path, context: Path, reference: str, archive: Path, log: Path) -> None:
        """See Builder. Layers are kept, so that a changed file of ours does not install the packages again."""
        # What builds that were interrupted have left.
        self._output("rm", "--all")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        base = self._base(log)
        self._build(containerfile, context, reference, log, "--build-arg", f"BASE={base}")
        commands.run(
            [*self._buildah, "push", reference, f"docker-archive:{archive}:{reference}"],
            what=f"image {reference}: writing its archive",
            log=log,
            seconds=TRANSFER_SECONDS,
        )

    def push(self, archive: Path, reference: str, destination: str, *, secure: bool) -> str:
        """See Builder."""
        if not self._has(reference):
            self._output("pull", f"docker-archive:{archive}")
        digest = self.storage / "pushed"
        self._output(
            "push", "--digestfile", digest, f"--tls-verify={str(secure).lower()}", reference, f"docker://{destination}"
        )
        return digest.read_text().strip()

    def _base(self, log: Path) -> str:
        """The reference of the base image, made now if it is not in the storage."""
        reference = f"localhost/atlas-sites/base:{base_key()}"
        if self._has(reference):
            return reference
        directory = cache_dir() / "images" / f"base-{base_key()}"
        archive = directory / "base.tar"
        if not archive.is_file():
            for outdated in directory.parent.glob("base-*"):
                shutil.rmtree(outdated)
            directory.mkdir(parents=True)
            half_made = directory / "half-made.tar"
            commands.run(
                ["mmdebstrap", "--quiet", f"--keyring={KEYRING}", *BOOTSTRAP, SUITE, half_made, *SOURCES],
                what=f"base image: mmdebstrap of Debian {SUITE}",
                log=log,
                seconds=BOOTSTRAP_SECONDS,
            )
            half_made.rename(archive)
        self._build(BASE_CONTAINERFILE, directory, reference, log)
        return reference

    def _build(self, containerfile: Path, context: Path, reference: str, log: Path, *more: str) -> None:
        commands.run(
            [*self._buildah, "build", "--layers", *more, "--tag", reference, "--file", containerfile, context],
            what=f"image {reference}: buildah",
            log=log,
            seconds=BUILD_SECONDS,
            # All that root may do inside a container of its own; any other isolation asks for more.
            environment={"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self._temporary)},
        )

    def _has(self, reference: str) -> bool:
        return reference in self._output("images", "--format", "{{.Name}}:{{.Tag}}").split()

    def _output(self, *words: str | Path) -> str:
        seconds = TRANSFER_SECONDS if words[0] in ("pull", "push") else LOOK_SECONDS
        return commands.output([*self._buildah, *words], what=f"buildah {words[0]}", seconds=seconds)

    @property
    def _temporary(self) -> Path:
        return self.storage / "tmp"

    @property
    def _buildah(self) -> tuple[str | Path, ...]:
        return ("buildah", "--root", self.storage / "root", "--runroot", self.storage / "run")


def base_key() -> str:
    """A short hash of all that we decide about the base: a new suite or package makes every image anew."""
    decided = repr((PUBLIC_BASE, SUITE, SOURCES, BOOTSTRAP, BASE_CONTAINERFILE.read_text()))
    return hashlib.sha256(decided.encode()).hexdigest()[:16]


def choose(log: Path, progress: Progress, *, base: str | None = PUBLIC_BASE) -> Builder:
    """What builds or pushes images on this machine.

    Args:
        log: where the output of installations goes.
        progress: where the choice is told.
        base: the image that an engine must be able to build on; none when nothing is built.

    Raises:
        Refusal: there is no engine, and buildah cannot be had or used.
    """
    for name in ("docker", "podman"):
        if shutil.which(name) is None:
            continue
        if not _succeeds(name, "version", seconds=ANSWER_SECONDS):
            progress.note(f"{name} is installed, but no engine answers")
        elif base is None or _available(name, base):
            return Engine(name=name)
        else:
            progress.note(f"{name} cannot pull {base}")
    if os.geteuid() != 0:
        raise Refusal(
            f"images: no docker or podman here answers and can pull {base or 'images'}, and only root can do without: "
            "start one, or run as root"
        )
    packages.ensure(PROGRAMS, purpose="building images", log=log, progress=progress)
    return Buildah(storage=cache_dir() / "images" / "buildah")


def _available(engine: str, base: str) -> bool:
    return _succeeds(engine, "pull", base, seconds=PULL_SECONDS) or _succeeds(
        engine, "image", "inspect", base, seconds=ANSWER_SECONDS
    )


def _succeeds(*command: str, seconds: float) -> bool:
    try:
        commands.output(command, what=command[0], seconds=seconds)
    except Refusal:
        return False
    return True
