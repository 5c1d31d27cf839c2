"""Which nodes are taken out of use and which are given back. Pure.

A node goes when there is a sign that something is wrong with it, few at a time, and none while so many look bad that it
cannot be the nodes. Nothing is remembered but on the nodes themselves, so that the controller can be killed at any
instant.

Of a pool with few nodes, "a tenth" is less than one node and "a third" may be one. So one node may always be away, and
one bad node is never too many, if the sign is of its own making (kernel, disk): a lone node whose kernel fails is worth
less than none, since an autoscaler brings another one for the startds that wait. But a sign that others may have caused
(CVMFS, failing startds) says something of a node only beside others that do well; so there the share counts as it
stands, and of three nodes or fewer none is taken out for it.
"""

from collections.abc import Iterable, Sequence

from services.nodehealth.model import Action, Cordon, Decision, Fault, Held, Node, Sign, Uncordon, Verdict

AWAY_SHARE = 0.1
BAD_SHARE = 0.3


def decide(nodes: Iterable[Node], *, now: float, quiet: float) -> Decision:
    """What to do now.

    Args:
        nodes: all that are to be looked after.
        now: POSIX seconds.
        quiet: seconds that a node is held at least.
    """
    pools: dict[str, list[Node]] = {}
    for node in sorted(nodes, key=lambda node: node.name):
        pools.setdefault(node.pool, []).append(node)
    back = [Uncordon(node=node) for some in pools.values() for node in some if _well(node, now)]
    actions: list[Action] = [*back]
    verdicts = []
    for name, some in sorted(pools.items()):
        more, verdict = _of_pool(name, some, now, quiet)
        actions += more
        verdicts.append(verdict)
    return Decision(actions=tuple(actions), verdicts=tuple(verdicts))


def may_be_away(nodes: int) -> int:
    """How many of a pool's nodes may be out of use at once."""
    return max(1, int(AWAY_SHARE * nodes))


def too_many(bad: int, nodes: int, fault: Fault) -> bool:
    """Whether so many look bad that it is not the nodes."""
    return bad > BAD_SHARE * nodes and not (fault is Fault.OWN and bad == 1)


def _well(node: Node, now: float) -> bool:
    """Whether a node that we hold is to be given back; a person's word counts more than signs."""
    if node.held is None:
        return False
    return node.left or (now >= node.held.until and not node.bad and not node.blind)


def _of_pool(name: str, nodes: Sequence[Node], now: float, quiet: float) -> tuple[list[Cordon], Verdict]:
    bad = sum(node.bad for node in nodes)
    # Whoever took them out; those that are given back in this turn are counted once more, which only makes us slower.
    away = sum(node.unschedulable or node.held is not None for node in nodes)
    wanted = [(node, sign) for node in nodes if (sign := _sign(node)) is not None]
    allowed = [(node, sign) for node, sign in wanted if not too_many(bad, len(nodes), sign.fault)]
    room = max(0, may_be_away(len(nodes)) - away)
    why = ""
    if len(allowed) < len(wanted):
        why = f"{bad} of {len(nodes)} nodes look bad: it is not the nodes"
    elif room < len(allowed):
        why = f"{away} of {len(nodes)} nodes are away: no more than {may_be_away(len(nodes))} may be at once"
    # What is certain first.
    allowed.sort(key=lambda each: (each[1].fault is not Fault.OWN, each[0].name))
    taken = [
        Cordon(node=node, held=Held(why=sign.kind, since=now, until=max(now + quiet, sign.until or 0.0)))
        for node, sign in allowed[:room]
    ]
    return [*_anew(nodes), *taken], Verdict(pool=name, nodes=len(nodes), bad=bad, away=away, why=why)


def _anew(nodes: Sequence[Node]) -> Iterable[Cordon]:
    """Nodes that we hold and that somebody let take pods again, while something still is wrong with them."""
    return (
        Cordon(node=node, held=node.held)
        for node in nodes
        if node.held is not None and node.signs and not node.unschedulable and not node.left
    )


def _sign(node: Node) -> Sign | None:
    """Why a node would be taken out of use; None if it would not.

    One that is not Ready takes no pods as it is, and clouds repair it. One that a person took out is the person's.
    """
    if node.held is not None or node.left or node.unschedulable or not node.ready or not node.signs:
        return None
    return min(node.signs, key=lambda sign: (sign.fault is not Fault.OWN, sign.kind))
