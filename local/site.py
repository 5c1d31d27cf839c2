"""The dev site on one machine, read as a table of contents: what `make up`, `demo`, `status`, `down` do, in order."""

import fcntl
import json
import os
import shutil
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from local import (
    certificates,
    commands,
    node,
    pool,
    repository,
    tools,
)
from local import (
    demo as batch,
)
from local import (
    images as pictures,
)
from local import (
    status as screen,
)
from local.engine import Engine
from local.paths import state_dir
from local.progress import Progress
from local.refusal import Refusal
from services.credentials.inputs import check

STACK = "dev"
HOST_TOOLS = ("pulumi", "kubernetes", "coredns")
CERTIFICATE_SECRET = "atlas-cert"  # noqa: S105  its name
FIRST_STARTD_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """The cluster that the dev site runs on, remembered between commands."""

    kubeconfig: str
    ours: bool

    @classmethod
    def recorded(cls) -> "Target | None":
        """The target of the last `make up`; none when there is no site."""
        try:
            return cls(**json.loads(_record().read_text()))
        except FileNotFoundError:
            return None

    def record(self) -> None:
        """Remembers this target, before anything is made on it."""
        _record().parent.mkdir(parents=True, exist_ok=True)
        _record().write_text(json.dumps(asdict(self)))


def up(kubeconfig: Path | None, context: str | None, push: str | None) -> None:
    """Brings the site up; a second run goes on where the first one stopped, and changes nothing when all is there.

    Args:
        kubeconfig: an existing cluster's; without it a node is started on this machine.
        context: of that file; its current one by default.
        push: the registry from which that cluster pulls images.
    """
    with _alone():
        progress = Progress(total=8)
        with progress.step("tools", "the engine, its Kubernetes provider and, for a node here, Kubernetes itself"):
            binaries = _tools(progress, HOST_TOOLS if kubeconfig is None else ("pulumi",))
        with progress.step("images", "startd, squid, services, cvmfs and the demonstration's repository"):
            images = pictures.build(progress)
        with progress.step("cluster", "a Kubernetes node on this machine" if kubeconfig is None else f"{kubeconfig}"):
            target = _target(progress, binaries, kubeconfig, context, push)
        with progress.step("transport", "the images, to where the cluster takes them from"):
            if push is not None:
                images = pictures.publish(push, progress)
                pictures.record(images)
            else:
                node.import_images([pictures.archive(name) for name in images])
        cluster = Path(target.kubeconfig)
        with progress.step("pool", "a central pool and a software repository, stand-ins for the experiment's"):
            certificates.ensure()
            pool.deploy(cluster, images, progress)
            repository.deploy(cluster, images, progress)
        with progress.step("certificate", f"a throw-away host certificate as Secret {CERTIFICATE_SECRET}"):
            _upload_certificate(cluster)
        engine = Engine(binaries)
        with progress.step("site", "pulumi up of the dev stack"):
            access = {"KUBECONFIG": str(cluster)}
            engine.prepare(STACK)
            engine.recover(STACK, access)
            try:
                engine.run("up", "--yes", "--skip-preview", "--stack", STACK, environment=access)
            except Refusal as refusal:
                # The engine says that pods are not ready; they say themselves why.
                raise Refusal("\n".join([str(refusal), *screen.warnings(cluster, STACK)])) from None
        with progress.step("startds", "the first startd joins the pool"):
            screen.wait_for_startd(cluster, seconds=FIRST_STARTD_SECONDS)
    print("\nThe site is up.  make demo   make status   make down")


def images(push: str | None) -> None:
    """Builds the images, and publishes them when a registry is named."""
    with _alone():
        progress = Progress(total=1 if push is None else 2)
        with progress.step("images", "startd, squid, services, cvmfs and the demonstration's repository"):
            pictures.build(progress)
        if push is not None:
            with progress.step("push", push):
                pictures.publish(push, progress)


def demo() -> None:
    """Runs a batch of Monte Carlo jobs on the site."""
    batch.run(_site(), Progress(total=3))


def status() -> None:
    """Shows the site on one screen."""
    screen.show(_site(), STACK)


def env() -> None:
    """Prints the environment in which `pulumi` and `kubectl` act on the dev site, for `eval`."""
    _site()
    for name, value in _environment().items():
        print(f"export {name}={quote(value)}")


def down() -> None:
    """Takes the site down: our own node goes with all that is on it, on another cluster Pulumi destroys the stack."""
    with _alone():
        target = Target.recorded()
        if target is None or target.ours:
            progress = Progress(total=1)
            with progress.step("node", "its processes, mounts, devices and files"):
                node.stop()
        else:
            progress = Progress(total=2)
            with progress.step("site", "pulumi destroy of the dev stack"):
                engine = Engine(_tools(progress, ("pulumi",)))
                access = {"KUBECONFIG": target.kubeconfig}
                engine.prepare(STACK)
                engine.recover(STACK, access)
                engine.run("destroy", "--yes", "--skip-preview", "--stack", STACK, environment=access)
            with progress.step("stand-ins", "the pool, the software repository and the throw-away certificate"):
                repository.remove(Path(target.kubeconfig))
                pool.remove(Path(target.kubeconfig))
                _remove_certificate(Path(target.kubeconfig))
        shutil.rmtree(state_dir(), ignore_errors=True)
    print("Nothing of the site is left on this machine but its caches (make clean forgets those).")


def _record() -> Path:
    return state_dir() / "target.json"


def _tools(progress: Progress, names: tuple[str, ...]) -> Path:
    """Makes tools available, also to the commands that are run by name: a bare machine has no kubectl of its own."""
    binaries = tools.ensure(progress, names)
    os.environ["PATH"] = os.pathsep.join([str(binaries), tools.foreign_path()])
    return binaries


def _site() -> Path:
    target = Target.recorded()
    if target is None:
        raise Refusal("there is no site on this machine: bring it up with `make up`")
    _tools(Progress(total=0), ("kubectl",))
    return Path(target.kubeconfig)


def _environment() -> dict[str, str]:
    return {**Engine(_tools(Progress(total=0), ("pulumi",))).environment(), "KUBECONFIG": str(_site())}


def _target(
    progress: Progress, binaries: Path, kubeconfig: Path | None, context: str | None, push: str | None
) -> Target:
    """The cluster to deploy to: our node, started if need be, or the one context of the user's file, copied.

    Raises:
        Refusal: the user's cluster cannot be used, or there is a site on another cluster already.
    """
    known = Target.recorded()
    if kubeconfig is None:
        if known is not None and not known.ours:
            raise Refusal("the dev site runs on another cluster: say `make down` before bringing it up on this machine")
        target = Target(kubeconfig=str(node.KUBECONFIG), ours=True)
        target.record()
        node.start(progress, binaries)
        return target
    if known is not None and known.ours:
        raise Refusal(
            "the dev site runs on this machine's node: say `make down` before bringing it up on another cluster"
        )
    if push is None:
        raise Refusal(
            "an existing cluster cannot take images from this machine: add PUSH=<a registry that it pulls from>"
        )
    choice = [] if context is None else ["--context", context]
    text = commands.output(
        ["kubectl", "--kubeconfig", kubeconfig, *choice, "config", "view", "--minify", "--flatten"],
        what=f"reading {kubeconfig}",
        seconds=30,
    )
    copy = state_dir() / "kubeconfig"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.touch(mode=0o600)
    copy.write_text(text)
    commands.output(
        ["kubectl", "--kubeconfig", copy, "version", "--request-timeout=20s"],
        what=f"asking the cluster of {kubeconfig}",
        seconds=30,
    )
    target = Target(kubeconfig=str(copy), ours=False)
    target.record()
    return target


def _upload_certificate(kubeconfig: Path) -> None:
    """The talk's command, word for word. A Secret that is there already is the user's, and stays.

    Raises:
        Refusal: no proxy can be made from what is in it.
    """
    held = _certificate(kubeconfig)
    own = certificates.certificate_file(certificates.SITE)
    if held is not None and certificates.is_throw_away(held.get("hostcert", b"")):
        if held["hostcert"] == own.read_bytes():
            return
        _kubectl(kubeconfig, "delete", "secret", CERTIFICATE_SECRET)
        held = None
    if held is None:
        _kubectl(
            kubeconfig, "create", "secret", "generic", CERTIFICATE_SECRET,
            f"--from-file=hostcert={own}", f"--from-file=hostkey={certificates.key_file(certificates.SITE)}",
        )  # fmt: skip
        return
    mistakes = check(held.get("hostcert", b""), held.get("hostkey", b""), datetime.now(UTC))
    if mistakes:
        raise Refusal(
            f"Secret {CERTIFICATE_SECRET} of namespace default: {'; '.join(mistakes)}; replace it, or delete it "
            f"(`kubectl delete secret {CERTIFICATE_SECRET}`) for a throw-away one"
        )


def _remove_certificate(kubeconfig: Path) -> None:
    """Deletes the throw-away certificate, and never a user's."""
    if certificates.is_throw_away((_certificate(kubeconfig) or {}).get("hostcert", b"")):
        _kubectl(kubeconfig, "delete", "secret", CERTIFICATE_SECRET)


def _certificate(kubeconfig: Path) -> dict[str, bytes] | None:
    """What is in the Secret with the host certificate; none if there is no such Secret."""
    text = _kubectl(kubeconfig, "get", "secret", CERTIFICATE_SECRET, "--ignore-not-found", "--output=json")
    if not text:
        return None
    return {key: b64decode(value) for key, value in (json.loads(text).get("data") or {}).items()}


def _kubectl(kubeconfig: Path, *words: str) -> str:
    return commands.output(
        ["kubectl", "--kubeconfig", kubeconfig, "--namespace=default", "--request-timeout=20s", *words],
        what=f"certificate: kubectl {words[0]}",
        seconds=30,
    )


@contextmanager
def _alone() -> Iterator[None]:
    """One of these commands at a time: two that build, start or remove the same site would undo each other's work.

    Raises:
        Refusal: another one is running.
    """
    state_dir().mkdir(parents=True, exist_ok=True)
    with (state_dir().parent / "atlas-sites.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(
                "another `make up`, `images` or `down` is at work on this machine: wait for it to end"
            ) from None
        yield
