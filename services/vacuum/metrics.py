"""What Prometheus may ask: numbers out of the statuses, so that a restart of the controller resets none of them."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from services.vacuum.model import Circuit, Decision, Snapshot, Status

# From a node that is there to one that the autoscaler has to bring; and to the first payload of a long queue.
STEPS = (1, 2, 5, 10, 20, 60, 120, 300, 600, 1200, 3600)


class Metrics:
    """The controller's own metrics, and those that follow from the statuses.

    Attributes:
        statuses: by the name of the set.
        staleness: seconds since the watches heard anything.
        leads: whether this replica is the one that acts.
    """

    def __init__(self, *, staleness: Callable[[], float], leads: Callable[[], bool]) -> None:
        self.statuses: Mapping[str, Status] = {}
        self.staleness = staleness
        self.leads = leads
        self.registry = CollectorRegistry()
        self.turns = Histogram("vacuum_turn_seconds", "Time that one turn of the loop took", registry=self.registry)
        self.requests = Counter(
            "vacuum_api_requests", "Calls to the API server", ["verb", "code"], registry=self.registry
        )
        self._steps = Histogram(
            "vacuum_startd_step_seconds",
            "Time that startds took from being made to having a node, from there to running, from being made to proof",
            ["set", "step"],
            buckets=STEPS,
            registry=self.registry,
        )
        self.registry.register(self)

    def observe(self, snapshot: Snapshot, decision: Decision) -> None:
        """Takes in what a decision, whose status is written, has counted and seen proven."""
        counted = {uid for uid, _ in decision.status.uncounted} - {uid for uid, _ in snapshot.status.uncounted}
        proven = set(decision.status.proven) - set(snapshot.status.proven)
        for pod in snapshot.pods:
            if pod.uid in counted and pod.scheduled is not None:
                self._step(snapshot.name, "schedule", pod.scheduled - pod.created)
                if pod.started is not None:
                    self._step(snapshot.name, "start", pod.started - pod.scheduled)
            if pod.sequence in proven and pod.ready is not None:
                self._step(snapshot.name, "proof", pod.ready - pod.created)

    def _step(self, name: str, step: str, seconds: float) -> None:
        self._steps.labels(name, step).observe(max(0.0, seconds))

    def collect(self) -> Iterable[Metric]:
        """All that the statuses say, as of now."""
        startds = GaugeMetricFamily("vacuum_startds", "Startds by what they have shown", labels=["set", "state"])
        outcomes = CounterMetricFamily("vacuum_outcomes", "What became of startds", labels=["set", "class"])
        held = CounterMetricFamily(
            "vacuum_core_seconds",
            "Core-seconds of startds that have ended, by what became of them",
            labels=["set", "class"],
        )
        busy = CounterMetricFamily("vacuum_busy_core_seconds", "Of it, with a payload", labels=["set"])
        lost = CounterMetricFamily("vacuum_lost_core_seconds", "Of payloads that were cut short", labels=["set"])
        cpu = CounterMetricFamily("vacuum_cpu_core_seconds", "CPU time of startds that have ended", labels=["set"])
        bounds = GaugeMetricFamily(
            "vacuum_bound_startds", "Startds that a limit allows, if known", labels=["set", "bound"]
        )
        gauges = {
            "vacuum_limit": GaugeMetricFamily("vacuum_limit", "Startds that the limits allow", labels=["set"]),
            "vacuum_blamed_nodes": GaugeMetricFamily("vacuum_blamed_nodes", "Nodes that are avoided", labels=["set"]),
            "vacuum_window": GaugeMetricFamily("vacuum_window", "Startds that may be unproven", labels=["set"]),
            "vacuum_backoff_level": GaugeMetricFamily("vacuum_backoff_level", "Back-offs in a row", labels=["set"]),
            "vacuum_next_probe_timestamp_seconds": GaugeMetricFamily(
                "vacuum_next_probe_timestamp_seconds", "No startd before; 0 if one may be made now", labels=["set"]
            ),
        }
        circuit = GaugeMetricFamily("vacuum_circuit_state", "1 for the state it is in", labels=["set", "state"])
        for name, status in self.statuses.items():
            for state in ("total", "running", "unproven", "proven"):
                startds.add_metric([name, state], getattr(status.startds, state))
            for what, number in status.outcomes.items():
                outcomes.add_metric([name, what], number)
            for what, seconds in status.usage.held.items():
                held.add_metric([name, what], seconds)
            busy.add_metric([name], status.usage.busy)
            lost.add_metric([name], status.usage.lost)
            cpu.add_metric([name], status.usage.cpu)
            for bound in status.bounds:
                if bound.startds is not None:
                    bounds.add_metric([name, bound.name], bound.startds)
            for state in Circuit:
                circuit.add_metric([name, state], float(status.circuit is state))
            gauges["vacuum_blamed_nodes"].add_metric([name], len(status.blamed))
            gauges["vacuum_limit"].add_metric([name], status.limit)
            gauges["vacuum_window"].add_metric([name], status.window)
            gauges["vacuum_backoff_level"].add_metric([name], status.level)
            gauges["vacuum_next_probe_timestamp_seconds"].add_metric([name], status.until or 0)
        leader = GaugeMetricFamily("vacuum_leader", "1 for the replica that acts")
        leader.add_metric([], float(self.leads()))
        stale = GaugeMetricFamily("vacuum_watch_staleness_seconds", "Since the API server said anything")
        stale.add_metric([], self.staleness())
        return [startds, outcomes, held, busy, lost, cpu, bounds, circuit, leader, stale, *gauges.values()]
