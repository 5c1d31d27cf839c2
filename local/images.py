"""The images of a site: built from `images/<name>/Containerfile`, kept as archives, published to a registry.

An image is tagged with a hash of all that goes into it: its Containerfile, the files that this copies from the
checkout, its locked Python packages, the base. What is in the cache under that hash is never built again.
"""

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from local import builders, commands, lock, tools
from local.paths import CHECKOUT, cache_dir, state_dir
from local.progress import Progress
from local.refusal import Refusal

ALL = ("startd", "squid", "services", "timeseries", "cvmfs", "repository")
IN_A_STACK = ("startd", "squid", "services", "timeseries", "cvmfs")

# What a Containerfile copies under this name comes from the lock file beside it, not from the checkout.
PYTHON_PACKAGES = "site-packages"
# What it copies from below this name is built from its Go module, as for this machine itself.
GO_PROGRAMS = "tools"
PYTHON = "3.13"  # Debian 13's
NEWEST_GLIBC_MINOR = 41  # Debian 13's, 2.41: wheels for it and for all before it
PACKAGES_SECONDS = 900.0
BUILD_DISK_BYTES = 4 * 2**30  # measured: 2.5 GiB, the builder's storage and the archives together

# Tools that look at times (tar, make, Python) see the same ones in each build. Not 0: zip files begin in 1980.
MODIFIED = 946684800
SCHEME = "1"  # changes when the same inputs shall give another image

REGISTRY = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*|\[[0-9a-f:]+\](:[0-9]+)?(/[a-z0-9._-]+)*")
LOOPBACK = re.compile(r"(localhost|127(\.[0-9]+){3}|\[::1\])(:[0-9]+)?(/.*)?")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what is in an image.

    Attributes:
        name: the image's, and its directory's below `images/`.
        containerfile: how it is built; its build context is the checkout, of which only `copied` is there.
        copied: paths below `checkout` that the Containerfile copies.
        lock: the Python packages that it copies as `site-packages`, if any.
        programs: of `tools.TOOLS`, that it copies as `tools/NAME`.
        checkout: where the paths begin.
    """

    name: str
    containerfile: Path
    copied: tuple[str, ...]
    lock: Path | None
    programs: tuple[str, ...]
    checkout: Path

    @property
    def key(self) -> str:
        """A short hash of the contents."""
        digest = hashlib.sha256(f"{SCHEME} {builders.base_key()} {platform.machine()}\n".encode())
        for file in (self.containerfile, *([self.lock] if self.lock else [])):
            digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        for program in self.programs:
            digest.update(f"{program} {tools.key(tools.TOOLS[program])}\n".encode())
        for file in self.files():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(self.checkout)} {_mode(file):o} {content}\n".encode())
        return digest.hexdigest()[:16]

    @property
    def reference(self) -> str:
        """What pods on this machine's node call it."""
        return f"localhost/atlas-sites/{self.name}:{self.key}"

    @property
    def archive(self) -> Path:
        """Where it lies once it is built."""
        return _home() / f"{self.name}-{self.key}.tar"

    def files(self) -> Iterator[Path]:
        """The files that are copied, in a fixed order; never bytecode.

        Raises:
            Refusal: something that is to be copied does not exist.
        """
        for path in self.copied:
            top = self.checkout / path
            if not top.exists():
                raise Refusal(f"image {self.name}: {self.containerfile} copies {path}, which does not exist")
            for file in [top] if top.is_file() else sorted(top.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    yield file


def recipe(name: str, checkout: Path = CHECKOUT) -> Recipe:
    """Reads the recipe of an image.

    Raises:
        Refusal: there is none, or it copies what it cannot.
    """
    directory = checkout / "images" / name
    containerfile = directory / "Containerfile"
    if not containerfile.is_file():
        raise Refusal(f"image {name}: there is no {containerfile}; known are {', '.join(ALL)}")
    sources = copied(containerfile.read_text())
    for source in sources:
        if Path(source).is_absolute() or ".." in Path(source).parts:
            raise Refusal(f"image {name}: {containerfile} copies {source}; name a path below the checkout")
    lock = directory / "requirements.txt" if PYTHON_PACKAGES in sources else None
    if lock is not None and not lock.is_file():
        raise Refusal(f"image {name}: {containerfile} copies {PYTHON_PACKAGES}, so {lock} must lock them; write it")
    programs = tuple(Path(source).name for source in sources if Path(source).parent == Path(GO_PROGRAMS))
    for program in programs:
        if program not in tools.TOOLS:
            raise Refusal(f"image {name}: {containerfile} copies {GO_PROGRAMS}/{program}, which local/tools.py lacks")
    return Recipe(
        name=name,
        containerfile=containerfile,
        copied=tuple(
            source for source in sources if source != PYTHON_PACKAGES and Path(source).parent != Path(GO_PROGRAMS)
        ),
        lock=lock,
        programs=programs,
        checkout=checkout,
    )


def copied(containerfile: str) -> list[str]:
    """The sources of all COPY instructions that copy from the build context."""
    sources: list[str] = []
    for line in containerfile.replace("\\\n", " ").splitlines():
        instruction, *words = shlex.split(line, comments=True) or [""]
        if instruction.upper() == "COPY" and not any(word.startswith("--from=") for word in words):
            sources += [word.rstrip("/") for word in words if not word.startswith("--")][:-1]
    return sources


def build(progress: Progress, names: Sequence[str] = ALL, *, checkout: Path = CHECKOUT) -> dict[str, str]:
    """Builds the images that are not in the cache.

    A build that is interrupted leaves nothing that a later one takes for finished; it goes on after the last image.

    Returns:
        Name to reference.

    Raises:
        Refusal: a recipe is wrong, a build failed, or nothing here can build images.
    """
    recipes = [recipe(name, checkout) for name in names]
    if any(not wanted.archive.is_file() for wanted in recipes):
        with _alone(progress):
            _sweep()
            missing = [wanted for wanted in recipes if not wanted.archive.is_file()]
            _check_disk()
            builder = builders.choose(_home() / "packages.log", progress)
            for wanted in missing:
                _build(wanted, builder, progress)
    return {wanted.name: wanted.reference for wanted in recipes}


def archive(name: str, *, checkout: Path = CHECKOUT) -> Path:
    """The archive of an image, as `docker load` and `ctr images import` take it.

    Raises:
        Refusal: what the checkout says has not been built.
    """
    wanted = recipe(name, checkout)
    if not wanted.archive.is_file():
        raise Refusal(f"image {name}: {wanted.reference} has not been built on this machine; run `make images`")
    return wanted.archive


def record(references: Mapping[str, str]) -> Path:
    """Writes down which images a stack with `images: local` means; those of other names stay.

    Returns:
        The file: name to reference, as JSON.
    """
    place = state_dir() / "images.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        known = json.loads(place.read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    fresh = place.with_name(f".{place.name}.{os.getpid()}")
    fresh.write_text(json.dumps({**known, **references}, indent=2) + "\n")
    fresh.replace(place)
    return place


def publish(
    registry: str, progress: Progress, names: Sequence[str] = ALL, *, checkout: Path = CHECKOUT
) -> dict[str, str]:
    """Pushes images that are built, and prints the block of a stack's configuration that names them.

    Args:
        registry: host, port and path, as in `ghcr.io/example`; spoken to in plain HTTP only on this machine's loopback.
        progress: where each push is told.
        names: of the images.
        checkout: where their Containerfiles are.

    Returns:
        Name to reference by digest.

    Raises:
        Refusal: an image has not been built, or the registry cannot be reached or does not take it.
    """
    if not REGISTRY.fullmatch(registry):
        raise Refusal(f"registry {registry!r}: not of the form host[:port][/path], as in ghcr.io/example; write it so")
    recipes = [recipe(name, checkout) for name in names]
    archives = [archive(name, checkout=checkout) for name in names]
    builder = builders.choose(_home() / "packages.log", progress, base=None)
    references: dict[str, str] = {}
    with _alone(progress):
        for wanted, held in zip(recipes, archives, strict=True):
            name, began = wanted.name, time.monotonic()
            progress.note(f"image {name}: pushing to {registry}")
            try:
                digest = builder.push(
                    held,
                    wanted.reference,
                    f"{registry}/{name}:{wanted.key}",
                    secure=LOOPBACK.fullmatch(registry) is None,
                )
            except Refusal as refusal:
                reason = str(refusal).splitlines()[-1]
                raise Refusal(
                    f"registry {registry}: did not take image {name} ({reason}); check the address and your login there"
                ) from None
            references[name] = f"{registry}/{name}@{digest}"
            progress.note(f"image {name}: pushed in {time.monotonic() - began:.1f} s")
    print(block(registry, references))
    return references


def block(registry: str, references: Mapping[str, str]) -> str:
    """What to paste into a stack's file, as YAML; images that no stack names are left out."""
    lines = [
        f"      {name}: {references[name].partition('@')[2]}"
        + ("  # reads over HTTP; at a real site: CERN's service image, as name@sha256:…" if name == "cvmfs" else "")
        for name in IN_A_STACK
        if name in references
    ]
    return "\n".join(["  atlas-sites:images:", f"    registry: {registry}", "    digests:", *lines])


def _build(wanted: Recipe, builder: builders.Builder, progress: Progress) -> None:
    """Builds one image in a directory that nobody takes for finished, then gives the archive its name."""
    began = time.monotonic()
    progress.note(f"image {wanted.name}: building")
    log = _home() / f"{wanted.name}.log"
    log.unlink(missing_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=".building-", dir=_home()))
    try:
        context = workplace / "context"
        lay_out(wanted, context, log, progress)
        half_made = workplace / "image.tar"
        with progress.alive(f"image {wanted.name}: building"):
            builder.build(wanted.containerfile, context, wanted.reference, half_made, log)
        for outdated in _home().glob(f"{wanted.name}-*.tar"):
            outdated.unlink()
        half_made.rename(wanted.archive)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    size = wanted.archive.stat().st_size / 2**20
    progress.note(f"image {wanted.name}: {size:.0f} MiB, built in {time.monotonic() - began:.1f} s")


def lay_out(wanted: Recipe, context: Path, log: Path, progress: Progress) -> None:
    """Makes the build context: what the recipe copies and nothing else, the same to the last mode and time.

    Raises:
        Refusal: the locked packages or the programs cannot be had.
    """
    context.mkdir()
    for path in wanted.copied:
        if (wanted.checkout / path).is_dir():
            (context / path).mkdir(parents=True, exist_ok=True)
    for file in wanted.files():
        copy = context / file.relative_to(wanted.checkout)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(_mode(file))
    if wanted.lock is not None:
        _unpack(wanted.name, wanted.lock, context / PYTHON_PACKAGES, log)
    for program in wanted.programs:
        (context / GO_PROGRAMS).mkdir(exist_ok=True)
        shutil.copy(tools.build(tools.TOOLS[program], progress) / program, context / GO_PROGRAMS)
    for place in (context, *context.rglob("*")):
        if place.is_dir():
            place.chmod(0o755)
        os.utime(place, (MODIFIED, MODIFIED), follow_symlinks=False)


def _unpack(name: str, lock: Path, target: Path, log: Path) -> None:
    """Lays out locked wheels for the image's Python, here: inside a build there may be no trust store to fetch with."""
    machine = platform.machine()
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC_MINOR, 4, -1)]
    commands.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
            "--no-deps", "--require-hashes", "--requirement", lock, "--target", target, "--only-binary=:all:",
            f"--python-version={PYTHON}", "--implementation=cp", *platforms, f"--platform=manylinux2014_{machine}",
        ],
        what=f"image {name}: fetching the packages of {lock}",
        log=log,
        seconds=PACKAGES_SECONDS,
    )  # fmt: skip
    shutil.rmtree(target / "bin", ignore_errors=True)  # scripts that name this machine's Python


def _mode(file: Path) -> int:
    """What git keeps of a file's mode: another umask must not make another image."""
    return 0o755 if os.access(file, os.X_OK) else 0o644


def _home() -> Path:
    home = cache_dir() / "images"
    home.mkdir(parents=True, exist_ok=True)
    return home


def _sweep() -> None:
    """Removes what builds left that were killed."""
    for abandoned in _home().glob(".building-*"):
        shutil.rmtree(abandoned, ignore_errors=True)


def _check_disk() -> None:
    free = shutil.disk_usage(_home()).free
    if free < BUILD_DISK_BYTES:
        raise Refusal(
            f"images: {_home()} has {free / 2**30:.1f} GiB free where building takes up to "
            f"{BUILD_DISK_BYTES / 2**30:.0f}: make room, or point XDG_CACHE_HOME elsewhere"
        )


def _alone(progress: Progress) -> AbstractContextManager[None]:
    """One process at a time uses the builder's storage."""
    return lock.held(_home() / "lock", progress, "images: another process is building them")
