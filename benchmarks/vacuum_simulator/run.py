"""One scenario with every controller, and what the account says of each."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

from benchmarks.vacuum_simulator.control import Controller
from benchmarks.vacuum_simulator.ledger import HOUR
from benchmarks.vacuum_simulator.ours import Ours
from benchmarks.vacuum_simulator.peers import Demand2017, Keda, Prp, Vcycle
from benchmarks.vacuum_simulator.scenarios import Scenario
from benchmarks.vacuum_simulator.world import World


def pipe(seed: int) -> Vcycle:
    """Vcycle with the 600 s that the ATLAS pipe has for both times: less than a startd that finds nothing lives."""
    return Vcycle(seed, name="vcycle 600", fizzle=600.0)


CONTROLLERS: tuple[Callable[[int], Controller], ...] = (Ours, Vcycle, pipe, Demand2017, Prp, Keda)
# What a controller must be told of the queue; nothing for those that follow the vacuum model.
NEEDS = {"2017": "queue length", "prp": "queue length, claims", "keda": "queue length"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one controller made of a scenario; core-hours, and seconds since work came back or the fault was mended.

    Attributes:
        wasted: what pods had on nodes without a payload that came to a good end, by class of the pods' ends.
        quiet: what was held while there was no work to be had; None without such a time.
        quiet_starts: pods made in it.
        first: until the first payload began.
        recovered: until 90 % of the goal run payloads.
    """

    controller: str
    needs: str
    delivered: float
    wasted: dict[str, float]
    quiet: float | None
    starts: int
    quiet_starts: int | None
    first: float | None
    recovered: float | None
    unproven_max: int
    delivered_by: dict[str, float]
    ended: dict[str, int]
    samples: tuple[tuple[float, int, int], ...] = field(repr=False)

    @property
    def wasted_total(self) -> float:
        """Of all classes."""
        return sum(self.wasted.values())

    def as_json(self) -> dict[str, object]:
        """All but the curve, which is in the plot."""
        return {name: value for name, value in asdict(self).items() if name != "samples"}


def play(scenario: Scenario, controller: Controller, *, scale: int, seed: int) -> Row:
    """One controller in one scenario."""
    ledger = World(scenario, controller, scale=scale, seed=seed).run()
    quiet = (scenario.quiet[0] * HOUR, scenario.quiet[1] * HOUR) if scenario.quiet else None
    since = ledger.returns or 0.0
    return Row(
        controller=controller.name,
        needs=NEEDS.get(controller.name, "nothing"),
        delivered=ledger.delivered / HOUR,
        wasted=ledger.classes,
        quiet=ledger.held_between(*quiet) / HOUR if quiet else None,
        starts=len(ledger.starts),
        quiet_starts=ledger.started_between(*quiet) if quiet else None,
        first=None if ledger.first is None else ledger.first - since,
        recovered=None if ledger.recovered is None else ledger.recovered - since,
        unproven_max=ledger.unproven_max,
        delivered_by={kind: done / HOUR for kind, done in sorted(ledger.delivered_by.items())},
        ended=dict(sorted(ledger.ended.items())),
        samples=tuple(ledger.samples),
    )


def play_all(scenario: Scenario, *, scale: int, seed: int) -> Iterable[Row]:
    """Every controller in one scenario, one after the other."""
    for make in CONTROLLERS:
        yield play(scenario, make(seed), scale=scale, seed=seed)
