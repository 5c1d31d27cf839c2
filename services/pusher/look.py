"""From what the API server and the other services say to the parts of a report. Pure."""

import sys
from collections.abc import Iterable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from services.kube import Json
from services.portal.report import MOST_EVENTS, Cost, Event, Limits, Proxy, SetStatus, Squid, Startd, StartdSet
from services.times import seconds
from services.vacuum.model import SET_LABEL, Pod
from services.vacuum.objects import pod_of

Labels = tuple[tuple[str, str], ...]
Samples = Mapping[tuple[str, Labels], float]
SENTENCE = 1024


def samples(text: str) -> Samples:
    """All that a service's /metrics says.

    Raises:
        ValueError: it is no such text.
    """
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def set_of(raw: Json) -> StartdSet:
    """A StartdSet as it is, but for what only its controller needs."""
    return StartdSet(
        name=raw["metadata"]["name"],
        limits=Limits.model_validate(raw["spec"]["limits"]),
        status=SetStatus.model_validate(raw.get("status", {})),
    )


def startd_of(raw: Json) -> Startd:
    """A startd's pod, in a few words."""
    pod = pod_of(raw)
    return Startd(
        name=pod.name,
        # Thousands have the same: each word is held once.
        set=sys.intern(raw["metadata"]["labels"][SET_LABEL]),
        node=sys.intern(pod.node),
        phase=sys.intern(pod.phase),
        doing=_doing(pod),
        created=pod.created,
    )


def _doing(pod: Pod) -> str:
    if pod.phase in {"Succeeded", "Failed"}:
        return "ended"
    if pod.deadline is not None or pod.requested is not None:
        return "leaving"
    if not pod.node:
        return "waiting"
    if pod.started is None:
        return "starting"
    return "unproven" if pod.ready is None else "proven"


def events_of(raws: Iterable[Json]) -> tuple[Event, ...]:
    """The last events, the newest first; one that is told twice is one."""
    found = {raw["metadata"]["name"]: _event(raw) for raw in raws}
    return tuple(sorted(found.values(), key=lambda event: -event.at)[:MOST_EVENTS])


def _event(raw: Json) -> Event:
    series = raw.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        raw.get("lastTimestamp"),
        raw.get("eventTime"),
        raw["metadata"].get("creationTimestamp"),
    )
    about = raw.get("involvedObject", {})
    return Event(
        at=next((at for at in map(seconds, times) if at is not None), 0.0),
        warning=raw.get("type") == "Warning",
        about=f"{about.get('kind', '?')} {about.get('name', '?')}"[:253],
        reason=str(raw.get("reason") or "?")[:253],
        message=str(raw.get("message") or "")[:SENTENCE],
        count=max(1, series.get("count") or raw.get("count") or 1),
    )


def proxy_of(said: Samples, now: float) -> Proxy | None:
    """The proxy, as the refresher tells of it; None if there is none yet."""
    left = said.get(("credentials_seconds_to_expiry", (("what", "proxy"),)))
    if left is None:
        return None

    def threshold(severity: str) -> float:
        return said.get(("credentials_threshold_seconds", (("severity", severity),)), 0.0)

    return Proxy(ends=max(0.0, now + left), warning=threshold("warning"), critical=threshold("critical"))


def cost_of(said: Samples) -> Cost | None:
    """What was spent, as the books tell of it; None if they cannot say."""
    found: dict[tuple[str, str], tuple[str, float]] = {}
    for (name, labels), value in said.items():
        told = dict(labels)
        if name in {"accounting_spent", "accounting_budget"}:
            found[name, told["period"]] = (told["currency"], value)
    today, month = found.get(("accounting_spent", "day")), found.get(("accounting_spent", "month"))
    if today is None or month is None:
        return None
    over = said.get(("accounting_over_budget", ()))
    per_day, per_month = found.get(("accounting_budget", "day")), found.get(("accounting_budget", "month"))
    return Cost(
        currency=today[0],
        today=today[1],
        month=month[1],
        per_day=per_day[1] if per_day else None,
        per_month=per_month[1] if per_month else None,
        over=None if over is None else bool(over),
    )


def squid_of(name: str, said: Samples | None) -> Squid:
    """A squid's requests and hits since it started, as its exporter counts them; unknown if that does not answer."""
    told = said or {}
    return Squid(
        name=name,
        requests=told.get(("squid_client_http_requests_total", ())),
        hits=told.get(("squid_client_http_hits_total", ())),
    )
