"""One screen: what the site does and why. What cannot be reached is shown as unknown, never as zero."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import commands
from local.refusal import Refusal

ASK_SECONDS = 20.0
LOOK_EVERY_SECONDS = 2.0
EXPIRES = "atlas-sites.io/expires"
UNKNOWN = "unknown"
RECENT = 5
WARNINGS = 8


@dataclass(frozen=True, kw_only=True)
class Squid:
    """One squid; its shares and counts are None when its manager does not answer."""

    name: str
    ready: bool
    requests: int | None = None
    hits: int | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What could be learnt; None is what could not.

    Attributes:
        now: POSIX seconds.
        startdset: its status, as in the API server.
        queue: jobs of the pool by state, as in {"idle": 3, "running": 2, "held": 0}.
        cvmfs: mounters ready, and wanted.
        proxy_until: POSIX seconds at which the proxy ends.
    """

    site: str
    now: float
    startdset: Mapping[str, Any] | None
    queue: Mapping[str, int] | None
    squids: Sequence[Squid] | None
    cvmfs: tuple[int, int] | None
    proxy_until: float | None


def render(seen: Snapshot) -> str:
    """The screen, as text."""
    status = seen.startdset
    lines = [f"site {seen.site}    {datetime.fromtimestamp(seen.now, UTC):%Y-%m-%d %H:%M:%S} UTC", ""]
    if status is None:
        lines += [_line("startds", UNKNOWN)]
    else:
        count: Mapping[str, Any] = status.get("startds", {})
        lines += [
            _line("state", f"{status.get('state', UNKNOWN)}: {status.get('message') or 'it has not said why yet'}"),
            _line(
                "startds",
                _counts(count, ("running", "unproven", "proven", "total")) + f" of {_known(status.get('limit'))}",
            ),
            _line("back-off", _backoff(status.get("circuit"), seen.now)),
            _line("outcomes", _counts(status.get("outcomes", {})) or "none yet"),
        ]
        lines += [
            _line(
                "",
                f"{entry.get('name')}  {entry.get('class')}  {entry.get('reason')}  {_known(entry.get('seconds'))} s",
            )
            for entry in status.get("recent", [])[:RECENT]
        ]
    lines += [
        _line("queue", UNKNOWN if seen.queue is None else _counts(seen.queue)),
        _line(
            "squids",
            UNKNOWN if seen.squids is None else f"{sum(s.ready for s in seen.squids)} of {len(seen.squids)} ready",
        ),
    ]
    lines += [_line("", f"{squid.name}  {_hits(squid)}") for squid in seen.squids or ()]
    lines += [
        _line("cvmfs", UNKNOWN if seen.cvmfs is None else f"{seen.cvmfs[0]} of {seen.cvmfs[1]} mounters ready"),
        _line("proxy", UNKNOWN if seen.proxy_until is None else _left(seen.proxy_until - seen.now)),
    ]
    return "\n".join(lines)


def show(kubeconfig: Path, site: str) -> None:
    """Prints the screen."""
    print(render(gather(kubeconfig, site)))


def gather(kubeconfig: Path, site: str) -> Snapshot:
    """Asks the API server, the pool and the squids; each may be silent without hiding the others."""
    sets = _json(kubeconfig, "get", "startdsets.vacuum.atlas-sites.io", f"--namespace={site}")
    secret = _json(kubeconfig, "get", "secret", "proxy", f"--namespace={site}")
    daemons = _json(kubeconfig, "get", "daemonset", "cvmfs", f"--namespace={site}-system")
    return Snapshot(
        site=site,
        now=time.time(),
        startdset=sets["items"][0].get("status") if sets and sets["items"] else None,
        queue=_queue(kubeconfig),
        squids=_squids(kubeconfig, site),
        cvmfs=_mounters(daemons),
        proxy_until=_moment(((secret or {}).get("metadata", {}).get("annotations") or {}).get(EXPIRES)),
    )


def warnings(kubeconfig: Path, site: str) -> list[str]:
    """What the site's objects complain of in Events, one line for each complaint, the last ones last."""
    told: dict[str, str] = {}
    for namespace in (site, f"{site}-system"):
        events = _json(kubeconfig, "get", "events", f"--namespace={namespace}", "--field-selector=type=Warning")
        for event in (events or {}).get("items", []):
            line = f"{event['involvedObject'].get('name')}: {event.get('reason')}: {event.get('message', '').strip()}"
            told[line] = event.get("lastTimestamp") or event.get("eventTime") or ""
    return [f"  {line}" for line in sorted(told, key=lambda line: told[line])[-WARNINGS:]]


def wait_for_startd(kubeconfig: Path, *, seconds: float, site: str = "dev") -> None:
    """Waits until the pool knows a startd of the site, or has known one.

    A startd that is Ready has had a payload, for which a pool without jobs would be waited for in vain.

    Raises:
        Refusal: none is after so long; the reason that the controller gives is in the sentence.
    """
    deadline = time.monotonic() + seconds
    while True:
        if _in_pool(kubeconfig, site) or _had_startds(kubeconfig, site):
            return
        if time.monotonic() > deadline:
            seen = gather(kubeconfig, site)
            why = (seen.startdset or {}).get("message") or "its controller says nothing"
            raise Refusal(f"site {site}: no startd joined the pool in {seconds:.0f} s ({why}); see `make status`")
        time.sleep(LOOK_EVERY_SECONDS)


def _in_pool(kubeconfig: Path, site: str) -> bool:
    """Whether the collector shows a startd of the site now."""
    asked = ("condor_status", "-startd", "-constraint", f'SiteName == "{site}"', "-limit", "1", "-autoformat", "Name")
    return bool((_say(kubeconfig, "exec", "--namespace=pool", "deployment/cm", "--", *asked) or "").strip())


def _had_startds(kubeconfig: Path, site: str) -> bool:
    """Whether the pool has known a startd before: a site without work has none most of the time."""
    sets = _json(kubeconfig, "get", "startdsets.vacuum.atlas-sites.io", f"--namespace={site}")
    outcomes = [entry.get("status", {}).get("outcomes", {}) for entry in (sets or {}).get("items", [])]
    return any({"Worked", "NoWork"} & counted.keys() for counted in outcomes)


def hit_counters(page: str) -> tuple[int, int] | None:
    """Requests of clients and hits among them, by squid's page of counters; none if it does not say."""
    counters = dict(line.split(" = ", 1) for line in page.splitlines() if " = " in line)
    try:
        return int(counters["client_http.requests"]), int(counters["client_http.hits"])
    except (KeyError, ValueError):
        return None


def _squids(kubeconfig: Path, site: str) -> list[Squid] | None:
    pods = _json(kubeconfig, "get", "pods", f"--namespace={site}", "--selector=app.kubernetes.io/name=squid")
    return None if pods is None else [_squid(kubeconfig, site, pod) for pod in pods["items"]]


def _squid(kubeconfig: Path, site: str, pod: Mapping[str, Any]) -> Squid:
    name = pod["metadata"]["name"]
    request = "GET /squid-internal-mgr/counters HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n"
    ask = f"exec 3<>/dev/tcp/127.0.0.1/3128; printf '{request}' >&3; cat <&3"
    page = _say(kubeconfig, "exec", f"--namespace={site}", name, "--", "bash", "-c", ask)
    requests, hits = hit_counters(page or "") or (None, None)
    return Squid(name=name, ready=_ready(pod), requests=requests, hits=hits)


def _queue(kubeconfig: Path) -> dict[str, int] | None:
    text = _say(
        kubeconfig,
        "exec",
        "--namespace=pool",
        "deployment/cm",
        "--",
        "condor_q",
        "-allusers",
        "-json",
        "-attributes",
        "JobStatus",
    )
    if text is None:
        return None
    states = [ad.get("JobStatus") for ad in (json.loads(text) if text.strip() else [])]
    return {"idle": states.count(1), "running": states.count(2), "held": states.count(5)}


def _mounters(daemons: Mapping[str, Any] | None) -> tuple[int, int] | None:
    status = (daemons or {}).get("status", {})
    if "desiredNumberScheduled" not in status:
        return None
    return int(status.get("numberReady", 0)), int(status["desiredNumberScheduled"])


def _ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _moment(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _backoff(circuit: Mapping[str, Any] | None, now: float) -> str:
    if circuit is None:
        return UNKNOWN
    until = _moment(circuit.get("until"))
    if circuit.get("state") != "Open":
        return {"Closed": "none", "HalfOpen": "one startd finds out whether there is work"}.get(
            circuit.get("state", ""), UNKNOWN
        )
    if until is None:
        return UNKNOWN
    return f"until {datetime.fromtimestamp(until, UTC):%H:%M:%S} UTC, {_left(until - now)}"


def _hits(squid: Squid) -> str:
    if squid.requests is None or squid.hits is None:
        return f"hit ratio {UNKNOWN}"
    ratio = f"{squid.hits / squid.requests:.0%}" if squid.requests else "not asked yet"
    return f"hit ratio {ratio}, {squid.requests} requests"


def _left(seconds: float) -> str:
    if seconds <= 0:
        return "over"
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours} h {rest // 60} min left" if hours else f"{rest // 60} min {rest % 60} s left"


def _counts(counts: Mapping[str, Any], names: Sequence[str] | None = None) -> str:
    return ", ".join(f"{_known(counts.get(name))} {name}" for name in (names if names is not None else counts))


def _known(value: object) -> str:
    return UNKNOWN if value is None else str(value)


def _line(name: str, text: str) -> str:
    return f"  {name:<10}{text}"


def _json(kubeconfig: Path, *words: str) -> dict[str, Any] | None:
    text = _say(kubeconfig, *words, "--output=json")
    return None if text is None else json.loads(text)


def _say(kubeconfig: Path, *words: str) -> str | None:
    """What kubectl answers; none if it does not."""
    try:
        return commands.output(
            ["kubectl", f"--kubeconfig={kubeconfig}", "--request-timeout=10s", *words],
            what="status",
            seconds=ASK_SECONDS,
        )
    except Refusal:
        return None
