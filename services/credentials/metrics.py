"""What Prometheus may ask: how long credentials last, whether they are being renewed, and what is in the way."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from services.credentials.inputs import Problem
from services.credentials.secret import Terms


class Metrics:
    """The refresher's metrics.

    Attributes:
        ends: when the proxy, its VOMS attributes, the certificate and the token end.
        renewed: when the proxy was made, whoever made it.
        problems: that a person has to put right.
    """

    def __init__(self, clock: Callable[[], datetime], terms: Terms) -> None:
        self.ends: Mapping[str, datetime] = {}
        self.renewed: datetime | None = None
        self.problems: Sequence[Problem] = ()
        self._clock = clock
        self._thresholds = {"warning": terms.alarm, "critical": terms.critical}
        self.registry = CollectorRegistry()
        self.refreshes = Counter(
            "credentials_refreshes", "Attempts to replace the proxy", ["result"], registry=self.registry
        )
        self.requests = Counter(
            "credentials_api_requests", "Calls to the API server", ["verb", "code"], registry=self.registry
        )
        for result in ("renewed", "failed", "conflict"):
            self.refreshes.labels(result)
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """All that depends on the time of asking."""
        now = self._clock()
        left = GaugeMetricFamily("credentials_seconds_to_expiry", "Until it ends", labels=["what"])
        for what, end in self.ends.items():
            left.add_metric([what], (end - now).total_seconds())
        success = GaugeMetricFamily("credentials_last_success_timestamp_seconds", "When the proxy was made")
        if self.renewed is not None:
            success.add_metric([], self.renewed.timestamp())
        problem = GaugeMetricFamily("credentials_problem", "1 for each that there is now", labels=["reason"])
        for reason in {problem.reason for problem in self.problems}:
            problem.add_metric([reason], 1)
        threshold = GaugeMetricFamily(
            "credentials_threshold_seconds", "A proxy with less left is to be looked after", labels=["severity"]
        )
        for severity, least in self._thresholds.items():
            threshold.add_metric([severity], least.total_seconds())
        return [left, success, problem, threshold]
