"""What Prometheus may ask: what was spent, how old that is, and what is in the way."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from services.accounting.money import MICROS


class Metrics:
    """The accounting's metrics.

    Attributes:
        spent: in millionths, by period (day, month) and currency.
        limits: of the budget, in the same way.
        over: whether the budget is used up; None without a budget, or if nobody knows.
        read: when a source was read last, POSIX seconds.
        gaps: days without a row between others, by source.
        problems: reasons, by source.
        series_waiting: days of which time series may lack something; None without time series.
        series_whole: when they had everything last, POSIX seconds; None before that.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.spent: Mapping[tuple[str, str], int] = {}
        self.limits: Mapping[tuple[str, str], int] = {}
        self.over: bool | None = None
        self.read: dict[str, float] = {}
        self.gaps: dict[str, int] = {}
        self.problems: dict[str, str] = {}
        self.series_waiting: int | None = None
        self.series_whole: float | None = None
        self._began = clock()
        self._clock = clock
        self.registry = CollectorRegistry()
        self.readings = Counter(
            "accounting_readings", "Attempts to read costs", ["source", "result"], registry=self.registry
        )
        self.rows = Counter(
            "accounting_rows", "Rows that were taken into the ledger", ["source"], registry=self.registry
        )
        self.points = Counter("accounting_series_points", "Points that time series have taken", registry=self.registry)
        self.requests = Counter(
            "accounting_api_requests", "Calls to the API server", ["verb", "code"], registry=self.registry
        )
        self.registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """All that depends on the time of asking."""
        spent = GaugeMetricFamily("accounting_spent", "Money spent", labels=["period", "currency"])
        for labels, amount in self.spent.items():
            spent.add_metric(labels, amount / MICROS)
        limits = GaugeMetricFamily("accounting_budget", "Money that may be spent", labels=["period", "currency"])
        for labels, amount in self.limits.items():
            limits.add_metric(labels, amount / MICROS)
        over = GaugeMetricFamily("accounting_over_budget", "1 when no more startds are made for the budget's sake")
        if self.over is not None:
            over.add_metric([], float(self.over))
        age = GaugeMetricFamily("accounting_reading_age_seconds", "Since costs were read", labels=["source"])
        for source, read in self.read.items():
            age.add_metric([source], self._clock() - read)
        gaps = GaugeMetricFamily("accounting_days_without_rows", "Between days that have some", labels=["source"])
        for source, number in self.gaps.items():
            gaps.add_metric([source], number)
        problem = GaugeMetricFamily("accounting_problem", "1 for each that there is now", labels=["source", "reason"])
        for source, reason in self.problems.items():
            problem.add_metric([source, reason], 1)
        waiting = GaugeMetricFamily("accounting_series_days_waiting", "Days of which time series may lack something")
        behind = GaugeMetricFamily("accounting_series_behind_seconds", "Since time series had everything")
        if self.series_waiting is not None:
            waiting.add_metric([], self.series_waiting)
            whole = self._began if self.series_whole is None else self.series_whole
            behind.add_metric([], self._clock() - whole)
        return [spent, limits, over, age, gaps, problem, waiting, behind]
