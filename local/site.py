"""The dev site on one machine, read as a table of contents: what `make up`, `demo`, `status`, `down` do, in order."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from local import (
    certificates,
    demo as batch,
    images as pictures,
    node,
    pool,
    repository,
    status as screen,
    target,
    tools,
)
from local.engine import Engine
from local.paths import cache_dir, state_dir
from local.progress import Progress
from local.refusal import Refusal
from local.target import Target

STACK = "dev"
HOST_TOOLS = ("pulumi", *node.TOOLS)
FIRST_STARTD_SECONDS = 300.0
PORTAL_PORT = 8090


def up(kubeconfig: Path | None, context: str | None, push: str | None, nodes: int) -> None:
    """Brings the site up; a second run goes on where the first one stopped, and changes nothing when all is there.

    Args:
        kubeconfig: an existing cluster's; without it a node is started on this machine.
        context: of that file; its current one by default.
        push: the registry from which that cluster pulls images.
        nodes: 1 or 2, of this machine.
    """
    with _alone():
        if kubeconfig is None:
            target.check_here()
        progress = Progress(total=8)
        with progress.step("tools", "the engine, its Kubernetes provider and, for a node here, Kubernetes itself"):
            binaries = _tools(progress, HOST_TOOLS if kubeconfig is None else ("pulumi",))
        with progress.step("images", "startd, squid, services, timeseries, cvmfs and the demonstration's repository"):
            images = pictures.build(progress)
        with progress.step("cluster", "a Kubernetes node on this machine" if kubeconfig is None else f"{kubeconfig}"):
            chosen = (
                target.here(progress, binaries, nodes) if kubeconfig is None else target.elsewhere(kubeconfig, context)
            )
            chosen.reach()
        with progress.step("transport", "the images, to where the cluster takes them from"):
            if push is not None:
                images = pictures.publish(push, progress)
            else:
                node.import_images([pictures.archive(name) for name in images])
            pictures.record(images)
        cluster = Path(chosen.kubeconfig)
        with progress.step("pool", "a central pool and a software repository, stand-ins for the experiment's"):
            certificates.ensure()
            pool.deploy(cluster, images, progress)
            repository.deploy(cluster, images, progress)
        with progress.step("certificate", f"a throw-away host certificate as Secret {certificates.SECRET}"):
            certificates.upload(cluster)
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
    print(f"Its portal, at http://localhost:{PORTAL_PORT} while this runs:  {portal_command(STACK)}")


def portal_command(site: str) -> str:
    """By which a person whom the cluster lets forward ports reaches the portal's pages."""
    return f'eval "$(make -s env)" && kubectl --namespace {site} port-forward service/portal {PORTAL_PORT}'


def images(push: str | None) -> None:
    """Builds the images, and publishes them when a registry is named."""
    with _alone():
        progress = Progress(total=1 if push is None else 2)
        with progress.step("images", "startd, squid, services, timeseries, cvmfs and the demonstration's repository"):
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
    for name, value in _environment().items():
        print(f"export {name}={quote(value)}")


def down() -> None:
    """Takes the site down: our own node goes with all that is on it, on another cluster Pulumi destroys the stack.

    Raises:
        Refusal: the site would not go, or something else would go with it.
    """
    with _alone():
        others = Engine.stacks() - {STACK}
        if others:
            raise Refusal(
                f"stack {', '.join(sorted(others))} has its state and its passphrase beside the dev site's, and they "
                "would go with it: destroy it and say `pulumi stack rm`, or move it (`pulumi stack export`)"
            )
        chosen = Target.recorded()
        if chosen is None or chosen.ours:
            progress = Progress(total=1)
            with progress.step("node", "its processes, mounts, devices and files"):
                node.stop()
        else:
            _remove(Path(chosen.kubeconfig), Progress(total=2))
        shutil.rmtree(state_dir(), ignore_errors=True)
    print("Nothing of the site is left on this machine but its caches (make clean forgets those).")


def _remove(kubeconfig: Path, progress: Progress) -> None:
    with progress.step("site", "pulumi destroy of the dev stack"):
        engine = Engine(_tools(progress, ("pulumi",)))
        access = {"KUBECONFIG": str(kubeconfig)}
        try:
            engine.prepare(STACK)
            engine.recover(STACK, access)
            engine.run("destroy", "--yes", "--skip-preview", "--stack", STACK, environment=access)
        except Refusal as refusal:
            raise Refusal(f"{refusal}; if that cluster is gone for good, delete {state_dir()}") from None
    with progress.step("stand-ins", "the pool with the software repository, and the throw-away certificate"):
        pool.remove(kubeconfig)
        certificates.remove(kubeconfig)


def _tools(progress: Progress, names: tuple[str, ...]) -> Path:
    """Makes tools available, also to the commands that are run by name: a bare machine has no kubectl of its own."""
    binaries = tools.ensure(progress, names)
    os.environ["PATH"] = os.pathsep.join([str(binaries), tools.foreign_path()])
    return binaries


def _site() -> Path:
    known = Target.recorded()
    if known is None:
        raise Refusal("there is no site on this machine: bring it up with `make up`")
    known.reach()
    _tools(Progress(total=0), ("kubectl",))
    return Path(known.kubeconfig)


def _environment() -> dict[str, str]:
    kubeconfig = _site()
    proxies = {name: os.environ[name] for name in ("NO_PROXY", "no_proxy") if name in os.environ}
    engine = Engine(_tools(Progress(total=0), ("pulumi",)))
    return {**engine.environment(), **proxies, "KUBECONFIG": str(kubeconfig)}


@contextmanager
def _alone() -> Iterator[None]:
    """One of these commands at a time: two that build, start or remove the same site would undo each other's work.

    Raises:
        Refusal: another one is running.
    """
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "site.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(
                "another `make up`, `images` or `down` is at work on this machine: wait for it to end"
            ) from None
        yield
