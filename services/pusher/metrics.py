"""What Prometheus may ask the pusher: whether the hub takes what the site tells."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric


class Metrics:
    """The pusher's metrics.

    Attributes:
        taken: when the hub took a report last, POSIX seconds; None for never.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.taken: float | None = None
        self._clock = clock
        self._began = clock()
        self.registry = CollectorRegistry()
        self.pushes = Counter("pusher_pushes", "Reports, by the hub's answer", ["code"], registry=self.registry)
        self.requests = Counter(
            "pusher_api_requests", "Calls to the API server", ["verb", "code"], registry=self.registry
        )
        self.pushes.labels("204")
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """All that depends on the time of asking; before the first report, since the pusher began."""
        age = GaugeMetricFamily("pusher_report_age_seconds", "Since the hub took a report")
        age.add_metric([], self._clock() - (self._began if self.taken is None else self.taken))
        return [age]
