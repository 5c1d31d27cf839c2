"""Nodes that spoil startds while others do well: new startds avoid them for a while. Pure.

It is a node's fault only if others do better: what fails everywhere is the site's, and the payload loop's business. So
a node is blamed only while startds elsewhere work, and never more than a fifth of the nodes are: of fewer than five,
none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from services.vacuum.model import Blamed, Class, NodeMemory, Outcome

# Of the last few ends on a node, so many by the site's fault.
REMEMBERED = 5
BAD_MIN = 3
# More failures than that elsewhere, and it is not the node.
ELSEWHERE_SHARE = 0.2
NODES_SHARE = 0.2
FIRST_SECONDS = 3600.0
LONGEST_SECONDS = 24 * 3600.0
# After so long without a failure, whatever was wrong with a node is history.
FORGET_SECONDS = 48 * 3600.0
NODES_MAX = 200

BAD, GOOD = "b", "g"


def learn(
    memory: Sequence[NodeMemory], ends: Sequence[Outcome], *, working: Sequence[str], now: float
) -> tuple[NodeMemory, ...]:
    """What is to be remembered of nodes after some startds have ended.

    Args:
        memory: as it was.
        ends: the new ones, in the order of time.
        working: the node of each living startd that has had a payload.
        now: POSIX seconds.
    """
    known = {node.name: node for node in memory if now - node.at < FORGET_SECONDS}
    for end in ends:
        letter = {Class.SITE_FAULT: BAD, Class.WORKED: GOOD}.get(end.what)
        if letter and end.node and (letter == BAD or end.node in known):
            before = known.get(end.node, NodeMemory(name=end.node))
            at = end.at if letter == BAD else before.at
            known[end.node] = replace(
                before,
                recent=(before.recent + letter)[-REMEMBERED:],
                at=at,
                level=before.level if letter == BAD else 0,
                reason=end.reason if letter == BAD else before.reason,
            )
    suspects = [node for node in known.values() if node.recent.count(BAD) >= BAD_MIN and node.recent[-1] == BAD]
    for node in suspects:
        not_avoided = node.until is None or now >= node.until
        fresh = any(end.node == node.name and end.what is Class.SITE_FAULT for end in ends)
        if not_avoided and fresh and _others_do_well(node.name, known.values(), working):
            pause = min(LONGEST_SECONDS, FIRST_SECONDS * 2**node.level)
            known[node.name] = replace(node, until=now + pause, level=node.level + 1)
    kept = [node for node in known.values() if BAD in node.recent]
    return tuple(sorted(kept, key=lambda node: node.at, reverse=True)[:NODES_MAX])


def blamed(memory: Sequence[NodeMemory], *, nodes: int, now: float) -> tuple[Blamed, ...]:
    """The nodes that new startds avoid now; none if it would be more than a fifth of them."""
    out = [node for node in memory if node.until is not None and now < node.until]
    if len(out) > NODES_SHARE * nodes:
        return ()
    return tuple(
        Blamed(name=node.name, until=node.until or now, level=node.level, reason=node.reason)
        for node in sorted(out, key=lambda node: node.name)
    )


def on_trial(memory: Sequence[NodeMemory], now: float) -> frozenset[str]:
    """Nodes whose time is over and that have shown nothing good since: one startd at a time finds out."""
    return frozenset(node.name for node in memory if node.level and node.until is not None and now >= node.until)


def suspected(memory: Sequence[NodeMemory], nodes: int) -> frozenset[str]:
    """Nodes where the last startd failed, for a probe to avoid; none if there is no other node."""
    last = frozenset(node.name for node in memory if node.recent.endswith(BAD))
    return last if len(last) < nodes else frozenset()


def _others_do_well(name: str, memory: Iterable[NodeMemory], working: Sequence[str]) -> bool:
    good = sum(node != name for node in working)
    bad = 0
    for node in memory:
        if node.name != name and node.until is None:
            good += node.recent.count(GOOD)
            bad += node.recent.count(BAD)
    return good > 0 and bad <= ELSEWHERE_SHARE * (good + bad)
