"""What Prometheus may ask the controller: pools, and what is wrong with which node."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from services.nodehealth.model import Node, Verdict


class Metrics:
    """The controller's metrics.

    Attributes:
        nodes, verdicts: as of the last turn.
    """

    def __init__(self, *, leads: Callable[[], bool]) -> None:
        self.nodes: Sequence[Node] = ()
        self.verdicts: Sequence[Verdict] = ()
        self._leads = leads
        self.registry = CollectorRegistry()
        self.actions = Counter("nodehealth_actions", "Nodes taken out of use and given back", ["action", "why"],
                               registry=self.registry)  # fmt: skip
        self.requests = Counter("nodehealth_api_requests", "Calls to the API server", ["verb", "code"],
                                registry=self.registry)  # fmt: skip
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """All that the last turn saw."""
        nodes = GaugeMetricFamily("nodehealth_nodes", "Nodes of a pool: all, bad, away", labels=["pool", "state"])
        restrained = GaugeMetricFamily(
            "nodehealth_restrained", "1 if bad nodes stay in use, for too many are bad or away", labels=["pool"]
        )
        for verdict in self.verdicts:
            for state in ("nodes", "bad", "away"):
                nodes.add_metric([verdict.pool, "all" if state == "nodes" else state], getattr(verdict, state))
            restrained.add_metric([verdict.pool], float(bool(verdict.why)))
        problems = GaugeMetricFamily("nodehealth_problem", "1 for each sign at a node", labels=["node", "problem"])
        held = GaugeMetricFamily("nodehealth_held_timestamp_seconds", "When we took the node", labels=["node", "why"])
        blind = GaugeMetricFamily("nodehealth_blind", "1 for a node whose monitor is silent", labels=["node"])
        for node in self.nodes:
            for sign in node.signs:
                problems.add_metric([node.name, sign.kind], 1)
            if node.held is not None:
                held.add_metric([node.name, node.held.why], node.held.since)
            if node.blind:
                blind.add_metric([node.name], 1)
        leader = GaugeMetricFamily("nodehealth_leader", "1 for the replica that acts")
        leader.add_metric([], float(self._leads()))
        return [nodes, restrained, problems, held, blind, leader]
