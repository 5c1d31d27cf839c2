"""The cluster that the dev site runs on: remembered between commands, and never exchanged under a site."""

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from local import commands, node
from local.paths import state_dir
from local.progress import Progress
from local.refusal import Refusal

DEFINITION = "startdsets.vacuum.atlas-sites.io"
ASK_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Target:
    """A cluster.

    Attributes:
        kubeconfig: a file with one context.
        cluster: the UID of its namespace kube-system, which no two clusters share; empty for this machine's own node.
    """

    kubeconfig: str
    cluster: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is the node of this machine, which comes and goes with the site."""
        return not self.cluster

    @classmethod
    def recorded(cls) -> "Target | None":
        """The target of the last `make up`; none when there is no site."""
        try:
            return cls(**json.loads(_record().read_text()))
        except FileNotFoundError:
            return None

    def record(self) -> None:
        """Remembers this target, before anything is made on it; whole or not at all."""
        _replace(_record(), json.dumps(asdict(self)))

    def reach(self) -> None:
        """Has what this process starts go to our own node past any proxy that the shell names."""
        if self.ours:
            os.environ.update({name: node.environment()[name] for name in ("NO_PROXY", "no_proxy")})


def check_here() -> None:
    """Looks whether a site may be on this machine, before minutes are spent on building for it.

    Raises:
        Refusal: it may not.
    """
    known = Target.recorded()
    if known is not None and not known.ours:
        raise Refusal("the dev site runs on another cluster: say `make down` before bringing it up on this machine")
    node.check()


def here(progress: Progress, binaries: Path, nodes: int) -> Target:
    """The node of this machine, or two, started if need be.

    Raises:
        Refusal: it cannot be.
    """
    check_here()
    target = Target(kubeconfig=str(node.KUBECONFIG))
    target.record()
    node.start(progress, binaries, nodes)
    return target


def elsewhere(kubeconfig: Path, context: str | None) -> Target:
    """An existing cluster, by one context of a file; what leads to it is copied.

    Raises:
        Refusal: it cannot be used, or there is a site on another cluster already.
    """
    known = Target.recorded()
    if known is not None and known.ours:
        raise Refusal(
            "the dev site runs on this machine's node: say `make down` before bringing it up on another cluster"
        )
    choice = [] if context is None else [f"--context={context}"]
    words = ["kubectl", f"--kubeconfig={kubeconfig}", *choice]
    text = commands.output(
        [*words, "config", "view", "--minify", "--flatten"], what=f"reading {kubeconfig}", seconds=ASK_SECONDS
    )
    ask = [*words, "--request-timeout=20s", "get"]
    what = f"asking the cluster of {kubeconfig}"
    cluster = commands.output(
        [*ask, "namespace", "kube-system", "--output=jsonpath={.metadata.uid}"], what=what, seconds=ASK_SECONDS
    )
    if known is not None and known.cluster != cluster:
        raise Refusal(
            f"the dev site runs on another cluster than that of {kubeconfig}: say `make down` before it is to move"
        )
    if known is None:
        found = commands.output(
            [*ask, "customresourcedefinition", DEFINITION, "--ignore-not-found", "--output=name"],
            what=what, seconds=ASK_SECONDS,
        )  # fmt: skip
        if found:
            raise Refusal(
                f"the cluster of {kubeconfig} has a site already ({DEFINITION}), and the dev site would take that "
                "with it when it goes: use another cluster"
            )
    copy = state_dir() / "kubeconfig"
    _replace(copy, text)
    target = Target(kubeconfig=str(copy), cluster=cluster)
    target.record()
    return target


def _record() -> Path:
    return state_dir() / "target.json"


def _replace(path: Path, text: str) -> None:
    """Writes a private file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}-", delete=False) as fresh:
        fresh.write(text)
    Path(fresh.name).replace(path)
