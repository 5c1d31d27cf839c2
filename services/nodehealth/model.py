"""Nodes as the controller sees them, and what it may do to them. Plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

GROUP = "nodehealth.atlas-sites.io"
# On a node that we have taken out of use: why, since when and until when at least, as JSON.
HELD_ANNOTATION = f"{GROUP}/held"
# A person's word, `true`: this node is not ours to touch.
LEAVE_ANNOTATION = f"{GROUP}/leave"

# The conditions that our monitor writes. None of them has a name that node-problem-detector uses: it may run as well.
KERNEL_MEMORY, KERNEL_HUNG, LOCAL_DISK, CVMFS = (
    "KernelMemoryProblem",
    "KernelHung",
    "LocalDiskProblem",
    "CvmfsProblem",
)
OURS = frozenset({KERNEL_MEMORY, KERNEL_HUNG, LOCAL_DISK, CVMFS})
# Not a condition: a StartdSet blames the node, for startds fail on it while they do well elsewhere.
BLACK_HOLE = "BlackHole"


class Fault(StrEnum):
    """Whose fault a sign may be."""

    OWN = "own"  # the node's, whatever others do
    SHARED = "shared"  # perhaps a server's that all nodes use


@dataclass(frozen=True, kw_only=True)
class Sign:
    """That something is wrong with a node.

    Attributes:
        kind: the type of the condition, or BLACK_HOLE.
        fault: whose it may be.
        until: when it ends by itself, as POSIX seconds; None if whoever shows it takes it back.
    """

    kind: str
    fault: Fault
    until: float | None = None


@dataclass(frozen=True, kw_only=True)
class Held:
    """That we took a node out of use.

    Attributes:
        why: the kind of the sign.
        since, until: POSIX seconds; it is not given back before `until`.
    """

    why: str
    since: float
    until: float


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node.

    Attributes:
        pool: that it is of.
        version: of the object, so that nothing is written over what is not known.
        ready: the kubelet says so.
        unschedulable: it takes no new pods, whoever said so.
        left: a person said that it is not to be touched.
        blind: our monitor on it has not spoken for long, so that the absence of signs shows nothing.
        signs: what is wrong with it.
        held: set if it is us who took it out of use.
        taints: as the API server has them.
    """

    name: str
    pool: str
    version: str = ""
    ready: bool = True
    unschedulable: bool = False
    left: bool = False
    blind: bool = False
    signs: tuple[Sign, ...] = ()
    held: Held | None = None
    taints: tuple[Mapping[str, Any], ...] = ()

    @property
    def bad(self) -> bool:
        """Whether it looks bad, for whatever reason."""
        return bool(self.signs) or not self.ready


@dataclass(frozen=True, kw_only=True)
class Cordon:
    """Take a node out of use: no new pods, and startds go after their last job."""

    node: Node
    held: Held


@dataclass(frozen=True, kw_only=True)
class Uncordon:
    """Give a node back."""

    node: Node


Action = Cordon | Uncordon


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is thought of a pool.

    Attributes:
        nodes, bad, away: how many there are, look bad, and take no new pods.
        why: nothing more is taken out of use; empty if nothing keeps us from it.
    """

    pool: str
    nodes: int
    bad: int
    away: int
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done, and why not more."""

    actions: tuple[Action, ...]
    verdicts: tuple[Verdict, ...]
