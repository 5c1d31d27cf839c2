"""All that the services tell Prometheus: the series of their own registries, and the labels of each."""

from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from services.accounting.metrics import Metrics as Accounting
from services.credentials.metrics import Metrics as Credentials
from services.credentials.secret import Terms
from services.nodehealth.metrics import Metrics as NodeHealth
from services.nodehealth.monitor import Metrics as Monitor
from services.portal.metrics import Metrics as Portal
from services.pusher.metrics import Metrics as Pusher
from services.vacuum.metrics import Metrics as Vacuum

# What Prometheus, as its chart or its operator configures it, adds to whatever is told.
SCRAPED = frozenset({"instance", "job", "namespace", "pod", "service"})
# The squids are told of by Debian's exporter, which the cluster tests ask.
SQUID = "squid_"


def registries() -> Iterator[CollectorRegistry]:
    """One of each service."""
    yield Accounting(lambda: 0.0).registry
    yield Credentials(lambda: datetime.now(UTC), Terms()).registry
    yield NodeHealth(leads=lambda: True).registry
    yield Monitor().registry
    yield Portal(["a"], {}, lambda: 0.0).registry
    yield Pusher(lambda: 0.0).registry
    yield Vacuum(staleness=lambda: 0.0, leads=lambda: True).registry


def exposed() -> dict[str, frozenset[str]]:
    """Labels by the name of the series, as a query names it."""
    found: dict[str, frozenset[str]] = {}
    for registry in registries():
        for collector in dict.fromkeys(registry._collector_to_names):
            for family in collector.collect():
                # A family of no label that has been used yet has no sample to tell its labels by.
                labels = frozenset(getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ()))
                match family.type:
                    case "counter":
                        found[f"{family.name}_total"] = labels
                    case "histogram":
                        found |= {f"{family.name}_{part}": labels for part in ("sum", "count")}
                        found[f"{family.name}_bucket"] = labels | {"le"}
                    case "gauge":
                        found[family.name] = labels
                    case kind:
                        raise AssertionError(f"{family.name}: nobody has thought of a {kind}")
    return found
