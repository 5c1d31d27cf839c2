"""How several sets share one site: by weight, with floors, and what one does not use is lent to the others. Pure.

Sets of different sizes are compared by the part of the site that they take: n startds take n of as many as there could
be if the site were theirs alone. Nothing that runs is stopped for a share; who has more than his gets nothing new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from services.vacuum.drain import stopping
from services.vacuum.evidence import ended
from services.vacuum.model import Bound, Circuit, Snapshot
from services.vacuum.payload import own_limit

# Of the nodes, that may be kept free at once for startds that are too large for what comes free by itself.
RESERVED_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one set asks of the site.

    Attributes:
        weight: in proportion to the others'.
        floor: startds that it gets first.
        wanted: startds that it could use: all that its own limits allow, or what it has while it backs off.
        alone: startds that the site could hold of it; None if nobody knows.
        millicores: that one startd requests.
        have: startds that it has.
        waiting: startds among them that fit no node.
    """

    name: str
    weight: int
    floor: int
    wanted: int
    alone: int | None
    millicores: int = 0
    have: int = 0
    waiting: int = 0


@dataclass(frozen=True, kw_only=True)
class NodeUse:
    """How much of a node is free of startds, in millicores."""

    name: str
    total: int
    free: int


def shared(snapshots: Sequence[Snapshot], nodes: Sequence[NodeUse], now: float) -> list[Snapshot]:
    """The looks at all sets of a site, each with its share and the nodes that it leaves free for the others."""
    claims = [_claim(snapshot, now) for snapshot in snapshots if not snapshot.deleting]
    shares = apportion(claims)
    avoid = reserve(claims, shares, nodes)
    return [
        replace(
            snapshot,
            bounds=(*snapshot.bounds, *([shares[snapshot.name]] if snapshot.name in shares else [])),
            avoid=avoid.get(snapshot.name, frozenset()),
        )
        for snapshot in snapshots
    ]


def _claim(snapshot: Snapshot, now: float) -> Claim:
    spec, status = snapshot.spec, snapshot.status
    alive = [pod for pod in snapshot.pods if not ended(pod, now)]
    wanted = own_limit(spec)
    if status.circuit is not Circuit.CLOSED:
        wanted = min(wanted, max(1, len(alive)))  # the rest is lent; a probe needs one
    return Claim(
        name=snapshot.name,
        weight=spec.weight,
        floor=spec.floor,
        wanted=wanted,
        alone=snapshot.alone,
        millicores=spec.size.millicores,
        have=len(alive),
        waiting=sum(pod.unschedulable and not stopping(pod) for pod in alive),
    )


def apportion(claims: Sequence[Claim]) -> Mapping[str, Bound]:
    """How many startds each set may have; nothing for one that has the site for itself."""
    if len(claims) < 2:
        return {}
    known = sorted((claim for claim in claims if claim.alone is not None), key=lambda claim: claim.name)
    parts = _fill(known)
    startds = _whole(known, parts)
    shares = {
        claim.name: Bound(
            name="share",
            startds=startds[claim.name],
            because=f"weight {claim.weight} of {sum(each.weight for each in known)}, "
            f"{float(parts[claim.name]):.0%} of the {claim.alone} that the site could hold",
        )
        for claim in known
    }
    unknown = Bound(name="share", startds=None, because="how many startds the site could hold is unknown")
    return {claim.name: shares.get(claim.name, unknown) for claim in claims}


def reserve(
    claims: Sequence[Claim], shares: Mapping[str, Bound], nodes: Sequence[NodeUse]
) -> Mapping[str, frozenset[str]]:
    """The nodes that the startds of each set leave free for larger ones.

    Single cores come free all over the site and are taken again at once, so that eight on one node never do. While a
    set within its share waits, the nodes that are nearest to having room for it take no smaller startds.
    """
    avoid: dict[str, frozenset[str]] = {claim.name: frozenset() for claim in claims}
    most = max(1, int(RESERVED_SHARE * len(nodes)))
    for claim in sorted(claims, key=lambda claim: (-claim.millicores, claim.name)):
        share = shares.get(claim.name)
        if not claim.waiting or share is None or share.startds is None or claim.have > share.startds:
            continue
        fits = [node for node in nodes if node.total >= claim.millicores]
        fits.sort(key=lambda node: (-node.free, node.name))
        kept, missing = set(), claim.waiting * claim.millicores
        for node in fits[:most]:
            if missing > 0:
                kept.add(node.name)
                missing -= node.total // claim.millicores * claim.millicores if claim.millicores else missing
        for other in claims:
            if other.millicores < claim.millicores:
                avoid[other.name] |= kept
    return avoid


def _fill(claims: Sequence[Claim]) -> dict[str, Fraction]:
    """The part of the site that each gets: in proportion to the weights, between its floor and what it wants."""
    least = {claim.name: _part(claim, min(claim.floor, claim.wanted)) for claim in claims}
    most = {claim.name: _part(claim, claim.wanted) for claim in claims}
    floors = sum(least.values())
    if floors >= 1:
        return {name: part / floors for name, part in least.items()}

    def at(level: Fraction) -> dict[str, Fraction]:
        return {claim.name: max(least[claim.name], min(most[claim.name], claim.weight * level)) for claim in claims}

    steps = sorted({bound[claim.name] / claim.weight for claim in claims for bound in (least, most)})
    below = Fraction(0)
    for level in steps:
        if sum(at(level).values()) > 1:
            low, high = sum(at(below).values()), sum(at(level).values())
            return at(below + (level - below) * (1 - low) / (high - low))
        below = level
    return most


def _whole(claims: Sequence[Claim], parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole startds: what is cut off goes to those who lost most by it, as far as it makes one."""
    startds = {claim.name: int(parts[claim.name] * (claim.alone or 0)) for claim in claims}
    left = 1 - sum(_part(claim, startds[claim.name]) for claim in claims)
    for claim in sorted(
        claims, key=lambda claim: (startds[claim.name] - parts[claim.name] * (claim.alone or 0), claim.name)
    ):
        while startds[claim.name] < min(claim.wanted, claim.alone or 0) and _part(claim, 1) <= left:
            startds[claim.name] += 1
            left -= _part(claim, 1)
    return startds


def _part(claim: Claim, startds: int) -> Fraction:
    return Fraction(min(startds, claim.alone), claim.alone) if claim.alone else Fraction(0)
