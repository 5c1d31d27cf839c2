"""What Prometheus may ask the hub: who was heard, how long ago, and what was refused."""

from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from services.portal.store import Heard


class Metrics:
    """The hub's metrics."""

    def __init__(self, sites: Collection[str], known: Mapping[str, Heard], clock: Callable[[], float]) -> None:
        self._sites = sites
        self._known = known
        self._clock = clock
        self._began = clock()
        self.registry = CollectorRegistry()
        self.pushes = Counter("portal_pushes", "Reports, by what became of them", ["result"], registry=self.registry)
        for result in ("taken", "401", "403", "413", "422", "503"):
            self.pushes.labels(result)
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """All that depends on the time of asking; a site that was never heard is silent since the hub began."""
        now = self._clock()
        silence = GaugeMetricFamily("portal_silence_seconds", "Since a site was heard", labels=["site"])
        for site in self._sites:
            heard = self._known.get(site)
            silence.add_metric([site], now - (self._began if heard is None else heard.at))
        return [silence]
