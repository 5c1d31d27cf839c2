"""The pinned programs that the local site needs, each built once from its Go module into the cache.

`local/tools/<name>/` holds one Go module per program: its go.mod is the pin, its go.sum the proof. A program that this
machine has already is used in place of ours where that is as good: the Pulumi engine and kubectl.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local import commands, lock
from local.paths import CHECKOUT, cache_dir, state_dir
from local.progress import Progress
from local.refusal import Refusal

SOURCES = CHECKOUT / "local" / "tools"
PROVIDER = "pulumi-resource-kubernetes"

# CGO off and -trimpath: the same bytes on every machine, and no C compiler is asked for. -s -w: no debug tables.
GO_ENVIRONMENT = {"CGO_ENABLED": "0", "GOWORK": "off"}
BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")
LINK_FLAGS = "-s -w"

DOWNLOAD_TRIES = 3
DOWNLOAD_PAUSE_SECONDS = 2.0  # before the second try; doubled for the third
DOWNLOAD_SECONDS = 900.0
BUILD_SECONDS = 3600.0
PLUGIN_SECONDS = 300.0
# Measured with cold caches: all the modules 3.0 GiB, the compiler's cache 5 GiB, the programs 1 GiB.
BUILD_DISK_BYTES = 10 * 2**30


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One build: a Go module below `local/tools/` and the programs made of it.

    `pin` is the module whose version is the tool's; where the registry knows that module by commit only, `sdk` is the
    Python package of the same release. `stamps` are the Go variables from which a program tells its version. `files`
    are laid beside the programs, `needs` come with them, and `acceptable` says whether a program of the same name that
    is on PATH does as well.
    """

    name: str
    pin: str
    directory: str
    packages: tuple[str, ...] = (".",)
    sdk: str | None = None
    stamps: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    needs: tuple[str, ...] = ()
    acceptable: Callable[[Path, str], bool] | None = None

    @property
    def source(self) -> Path:
        """The directory of its Go module."""
        return SOURCES / self.directory

    @property
    def version(self) -> str:
        """Its version, without the `v`: what it tells of itself."""
        return required(self.source / "go.mod", self.pin) if self.sdk is None else sdk_version(self.sdk)

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of what is built."""
        return tuple(self.name if package == "." else package.rsplit("/", 1)[1] for package in self.packages)

    def link_flags(self) -> str:
        """What the linker is told, version stamps included."""
        major, minor, _ = self.version.split(".", maxsplit=2)
        texts = {
            name: text.format(version=self.version, major=major, minor=minor) for name, text in self.stamps.items()
        }
        return " ".join([LINK_FLAGS, *(f"-X {name}={text}" for name, text in texts.items())])

    def on_path(self) -> Path | None:
        """The user's own program, when there is one as good as ours."""
        found = shutil.which(self.name, path=foreign_path()) if self.acceptable is not None else None
        if found is None or self.acceptable is None or not self.acceptable(Path(found), self.version):
            return None
        return Path(found)


def foreign_path() -> str:
    """PATH without our own directories, which `make env` may have put there."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    ours = (cache_dir(), state_dir())
    return os.pathsep.join(entry for entry in entries if not any(Path(entry).is_relative_to(place) for place in ours))


def required(go_mod: Path, module: str) -> str:
    """The version, without its `v`, that a go.mod requires of a module.

    Raises:
        LookupError: it requires no such module.
    """
    found = re.search(rf"^(?:require|\t) ?{re.escape(module)} v(\S+)", go_mod.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f"{go_mod} does not require {module}")
    return found[1]


def sdk_version(package: str) -> str:
    """The version that pyproject.toml pins of a Python package.

    Raises:
        LookupError: it pins none.
    """
    for requirement in tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]:
        name, _, version = str(requirement).partition("==")
        if name == package and version:
            return version
    raise LookupError(f"pyproject.toml pins no version of {package}")


def _at_least(program: Path, version: str) -> bool:
    """Whether a `pulumi` is of that version or later, of the same major version."""
    try:
        told = commands.output([program, "version"], what=f"asking {program} for its version", seconds=20)
    except (Refusal, OSError):
        return False
    found = re.fullmatch(r"v?(\d+\.\d+\.\d+)\S*", told.strip())
    wanted = _numbers(version)
    return found is not None and wanted <= _numbers(found[1]) < (wanted[0] + 1,)


KUBERNETES_STAMPS = {
    "k8s.io/component-base/version.gitVersion": "v{version}",
    "k8s.io/component-base/version.gitMajor": "{major}",
    "k8s.io/component-base/version.gitMinor": "{minor}",
}

TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            name="pulumi",
            pin="github.com/pulumi/pulumi/pkg/v3",
            directory="pulumi",
            packages=("github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",),
            stamps={"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": "{version}"},
            files=(SOURCES / "pulumi" / "pulumi-language-python", CHECKOUT / "local" / "language_host.py"),
            needs=(PROVIDER, "kubectl"),
            acceptable=_at_least,
        ),
        Tool(
            name=PROVIDER,
            pin="github.com/pulumi/pulumi-kubernetes/provider/v4",
            directory=PROVIDER,
            sdk="pulumi-kubernetes",
            stamps={"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version": "{version}"},
        ),
        Tool(
            name="kubernetes",
            pin="k8s.io/kubernetes",
            directory="kubernetes",
            packages=(
                "k8s.io/kubernetes/cmd/kube-apiserver",
                "k8s.io/kubernetes/cmd/kube-controller-manager",
                "k8s.io/kubernetes/cmd/kube-scheduler",
                "k8s.io/kubernetes/cmd/kube-proxy",
                "k8s.io/kubernetes/cmd/kubelet",
            ),
            stamps=KUBERNETES_STAMPS,
            needs=("kubectl",),
        ),
        Tool(
            name="kubectl",
            pin="k8s.io/kubernetes",
            directory="kubernetes",
            packages=("k8s.io/kubernetes/cmd/kubectl",),
            stamps=KUBERNETES_STAMPS,
            acceptable=lambda _program, _version: True,
        ),
        Tool(name="coredns", pin="github.com/coredns/coredns", directory="coredns"),
        Tool(name="kube-network-policies", pin="sigs.k8s.io/kube-network-policies", directory="kube-network-policies"),
        Tool(
            name="kwok",
            pin="sigs.k8s.io/kwok",
            directory="kwok",
            packages=("sigs.k8s.io/kwok/cmd/kwok",),
            stamps={"sigs.k8s.io/kwok/pkg/consts.Version": "v{version}"},
        ),
        Tool(name="registry", pin="github.com/distribution/distribution/v3", directory="registry"),
        Tool(
            name="rclone",
            pin="github.com/rclone/rclone",
            directory="rclone",
            stamps={"github.com/rclone/rclone/fs.Version": "v{version}"},
        ),
        Tool(
            name="actionlint",
            pin="github.com/rhysd/actionlint",
            directory="actionlint",
            packages=("github.com/rhysd/actionlint/cmd/actionlint",),
        ),
    )
}


def pins() -> dict[str, str]:
    """Tool to version, as what is built reports it."""
    return {tool.name: tool.version for tool in TOOLS.values()}


def pulumi_home() -> Path:
    """The engine's home while it works for us: plugins and logs, no state and no login."""
    return cache_dir() / "pulumi"


def ensure(progress: Progress, names: Iterable[str]) -> Path:
    """Makes tools available, building those that this machine lacks.

    Args:
        progress: where downloads and builds are told.
        names: of `TOOLS`; what one needs comes with it.

    Returns:
        A directory that holds the programs, to be put first on PATH.

    Raises:
        Refusal: Go is missing or too old, the disk is full, a download or a build failed.
    """
    wanted = dict.fromkeys(names)
    for name in tuple(wanted):
        wanted |= dict.fromkeys(TOOLS[name].needs)
    engine = TOOLS["pulumi"].on_path() if "pulumi" in wanted else None
    built: dict[str, Path] = {}
    for tool in (TOOLS[name] for name in wanted):
        if tool.on_path() is not None or (tool.name == PROVIDER and engine and _official_provider(engine, progress)):
            continue
        directory = build(tool, progress)
        built |= {path.name: path for path in directory.iterdir() if os.access(path, os.X_OK)}
    if PROVIDER in built:
        _install_provider(built.pop(PROVIDER))
    return _together(built)


def key(tool: Tool, *compiler: str) -> str:
    """A short hash of all that decides what is compiled: pins, sources, flags, and the compiler where it is known."""
    sources = (path for path in tool.source.iterdir() if path.is_file() and path not in tool.files)
    what = (tool.packages, BUILD_FLAGS, tool.link_flags(), sorted(GO_ENVIRONMENT.items()), *compiler)
    return hashlib.sha256(f"{_sums(sources)}{what!r}".encode()).hexdigest()[:16]


def _sums(files: Iterable[Path]) -> str:
    """A line for each file: its name and the hash of what is in it."""
    return "".join(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in sorted(files))


def build(tool: Tool, progress: Progress) -> Path:
    """The directory of a tool's programs, built now if it is not in the cache.

    What is laid beside the programs has a key of its own, so that a change there compiles nothing. Two processes that
    want the same build make it once.

    Raises:
        Refusal: as for `ensure`.
    """
    label = f"{tool.name} {tool.version}"
    home = cache_dir() / "tools"
    compiled = home / f"{tool.name}-{key(tool, _go_version(tool, label))}"
    target = compiled
    if tool.files:
        target = home / f"{compiled.name}-{hashlib.sha256(_sums(tool.files).encode()).hexdigest()[:8]}"
    if target.is_dir():
        return target
    with lock.held(home / f"{tool.name}.lock", progress, f"{label}: another process is building it"):
        for abandoned in home.glob(f".{tool.name}-building-*"):
            shutil.rmtree(abandoned)
        if not compiled.is_dir():
            _check_disk(home, label)
            log = home / f"{tool.name}.log"
            log.unlink(missing_ok=True)
            with _appearing(tool, compiled) as directory:
                _download(tool, label, log, progress)
                _compile(tool, label, directory, log, progress)
        if not target.is_dir():
            with _appearing(tool, target) as directory:
                # The engine looks beside itself with symbolic links resolved, so its program must really be there.
                for program in tool.programs:
                    (directory / program).hardlink_to(compiled / program)
                for file in tool.files:
                    shutil.copy(file, directory)
    return target


@contextmanager
def _appearing(tool: Tool, target: Path) -> Iterator[Path]:
    """A directory to be filled, which gets its name when all is in it: one that was interrupted is never seen."""
    half_made = Path(tempfile.mkdtemp(prefix=f".{tool.name}-building-", dir=target.parent))
    try:
        yield half_made
        half_made.chmod(0o755)
        half_made.rename(target)
    finally:
        shutil.rmtree(half_made, ignore_errors=True)


def _go_version(tool: Tool, label: str) -> str:
    """The compiler's version, as it is inside that module: its go.mod may say which one it takes.

    Raises:
        Refusal: there is none, or it is too old for the module.
    """
    oldest = re.search(r"^go (\S+)", (tool.source / "go.mod").read_text(), re.MULTILINE)
    needed = oldest[1] if oldest else "any"
    remedy = f"install Go {needed} or later (https://go.dev/dl)"
    if tool.acceptable is not None:
        remedy += f", or {tool.name} itself"
    if shutil.which("go") is None:
        raise Refusal(f"{label} has to be built and Go is not on this machine: {remedy}")
    try:
        # The first call may fetch the newer compiler that the go.mod asks for.
        done = subprocess.run(
            ["go", "env", "GOVERSION"],
            cwd=tool.source,
            env={**os.environ, **GO_ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refusal(f"{label} has to be built and `go env` gave no answer: {remedy}") from None
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())
        raise Refusal(f"{label} has to be built and this machine's Go cannot ({reason}): {remedy}")
    version = done.stdout.strip()
    # Before 1.21 Go did not fetch the compiler that a go.mod asks for, and failed only in the middle of a build.
    release = re.match(r"go([\d.]+)", version)
    if release is not None and oldest is not None and _numbers(release[1]) < _numbers(oldest[1]):
        raise Refusal(f"{label} has to be built and this machine's Go is {release[1]}: {remedy}")
    return version


def _numbers(version: str) -> tuple[int, ...]:
    """A dotted version as numbers, to be compared."""
    return tuple(int(part) for part in version.split("."))


def _check_disk(directory: Path, label: str) -> None:
    """Refuses a build that would end in a full disk, whether the cache or Go's own caches lie there."""
    for place in (directory, Path(os.environ.get("GOCACHE") or Path.home())):
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if free < BUILD_DISK_BYTES:
            raise Refusal(
                f"{label} has to be built and {existing} has {free / 2**30:.1f} GiB free where builds take up to "
                f"{BUILD_DISK_BYTES / 2**30:.0f}: make room, or point XDG_CACHE_HOME, GOCACHE and GOMODCACHE elsewhere"
            )


def _download(tool: Tool, label: str, log: Path, progress: Progress) -> None:
    progress.note(f"{label}: downloading its modules")
    for attempt in range(1, DOWNLOAD_TRIES + 1):
        began = time.monotonic()
        try:
            with progress.alive(f"{label}: downloading"):
                commands.run(
                    ["go", "mod", "download"],
                    what=f"downloading the modules of {label}",
                    log=log,
                    seconds=DOWNLOAD_SECONDS,
                    environment=GO_ENVIRONMENT,
                    directory=tool.source,
                )
        except Refusal as refusal:
            if attempt == DOWNLOAD_TRIES:
                reason = str(refusal).splitlines()[-1]
                raise Refusal(
                    f"{label}: its modules could not be downloaded ({reason}): see that the proxy of `go env GOPROXY` "
                    f"can be reached, then run again (what has arrived is kept; more is in {log})"
                ) from None
            progress.note(f"{label}: downloading failed, trying again ({attempt + 1} of {DOWNLOAD_TRIES})")
            time.sleep(DOWNLOAD_PAUSE_SECONDS * 2.0 ** (attempt - 1))
        else:
            progress.note(f"{label}: downloaded in {time.monotonic() - began:.0f} s, building")
            return


def _compile(tool: Tool, label: str, target: Path, log: Path, progress: Progress) -> None:
    began = time.monotonic()
    with progress.alive(f"{label}: building"):
        commands.run(
            ["go", "build", *BUILD_FLAGS, "-ldflags", tool.link_flags(), "-o", f"{target}/", *tool.packages],
            what=f"building {label}",
            log=log,
            seconds=BUILD_SECONDS,
            environment=GO_ENVIRONMENT,
            directory=tool.source,
        )
    progress.note(f"{label}: built in {time.monotonic() - began:.0f} s")


def _provider_directory() -> Path:
    return pulumi_home() / "plugins" / f"resource-kubernetes-v{TOOLS[PROVIDER].version}"


def _official_provider(engine: Path, progress: Progress) -> bool:
    """Has an engine that the user installed fetch the provider's release; false where that cannot be reached."""
    if (_provider_directory() / PROVIDER).exists():
        return True
    version = TOOLS[PROVIDER].version
    progress.note(f"{PROVIDER} {version}: downloading its release")
    try:
        commands.output(
            [engine, "plugin", "install", "resource", "kubernetes", version],
            what="downloading the Kubernetes provider",
            seconds=PLUGIN_SECONDS,
            environment={"PULUMI_HOME": str(pulumi_home()), "PULUMI_SKIP_UPDATE_CHECK": "true"},
        )
    except Refusal as refusal:
        progress.note(f"{PROVIDER} {version}: {refusal}; building it instead")
        return False
    return True


def _install_provider(program: Path) -> None:
    """Puts a built provider among the engine's plugins: one from PATH is used too, but with a warning each time."""
    directory = _provider_directory()
    directory.mkdir(parents=True, exist_ok=True)
    _link(directory / PROVIDER, program)


def _together(programs: Mapping[str, Path]) -> Path:
    """One directory of links to programs, named after what it holds, so that it never changes under a running site."""
    name = hashlib.sha256(repr(sorted(programs.items())).encode()).hexdigest()[:16]
    directory = cache_dir() / "tools" / f"bin-{name}"
    directory.mkdir(parents=True, exist_ok=True)
    for program, path in programs.items():
        _link(directory / program, path)
    return directory


def _link(place: Path, target: Path) -> None:
    """Makes or replaces a symbolic link in one step."""
    if place.is_symlink() and place.readlink() == target:
        return
    fresh = place.with_name(f".{place.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(place)
