"""Reports as sites push them, for tests of the portal."""

from typing import Any

from services.portal.report import Report

NOW = 1_790_000_000.0
TOKEN = "t" * 43
OTHER = "u" * 43


def startd(number: int, doing: str = "proven", *, in_set: str = "startds", node: str = "node-1") -> dict[str, Any]:
    phase = {"waiting": "Pending", "ended": "Succeeded"}.get(doing, "Running")
    return {
        "name": f"{in_set}-{number}",
        "set": in_set,
        "node": "" if doing == "waiting" else node,
        "phase": phase,
        "doing": doing,
        "created": NOW - 60 * number,
    }


def startd_set(name: str = "startds", state: str = "Steady", message: str = "work is found", running: int = 3) -> Any:
    return {
        "name": name,
        "limits": {"pods": 10, "cores": 80, "memoryMib": 20480},
        "status": {
            "state": state,
            "message": message,
            "limit": 8,
            "startds": {"total": running + 1, "running": running, "unproven": 1, "proven": max(0, running - 1)},
            "window": 4,
            "circuit": {"state": "Closed", "level": 0},
            "outcomes": {"Worked": 12, "NoWork": 3},
            "bounds": [
                {"name": "window", "startds": 8, "because": "4 may be unproven"},
                {"name": "budget", "because": "1.00 of 5.00 EUR are spent today", "stale": True},
                {"name": "pods", "startds": 2, "because": "10 less 8"},
            ],
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": state,
                    "message": message,
                    "lastTransitionTime": "2026-09-21T14:00:00Z",
                }
            ],
            "recent": [
                {
                    "name": f"{name}-1",
                    "class": "NoWork",
                    "reason": "nobody claimed it",
                    "at": "2026-09-21T14:00:00Z",
                    "seconds": 601,
                    "node": "node-1",
                }
            ],
            "blamedNodes": [],
            # Of the controller's memory nothing is pushed, and nothing minded.
            "sequence": 77,
        },
    }


def whole(site: str = "hall", **more: Any) -> dict[str, Any]:
    """A report of a site that is well."""
    return {
        "version": 1,
        "site": site,
        "atlasSite": f"{site.upper()}-PROD",
        "time": NOW,
        "sets": [startd_set()],
        "startds": [startd(1), startd(2), startd(3, "unproven", node="node-2"), startd(10, "waiting")],
        "events": [
            {
                "at": NOW - 90,
                "warning": True,
                "about": "StartdSet startds",
                "reason": "QuotaFull",
                "message": "the quota lets no more pods be made",
                "count": 3,
            }
        ],
        "squids": [{"name": "squid-0", "requests": 100, "hits": 80}, {"name": "squid-1", "requests": 100, "hits": 90}],
        "proxy": {"ends": NOW + 90 * 3600, "warning": 80 * 3600, "critical": 72 * 3600},
        "cost": {"currency": "EUR", "today": 1.5, "month": 20, "perDay": 5, "perMonth": 100, "over": False},
        "problems": [],
    } | more


def report(site: str = "hall", **more: Any) -> Report:
    return Report.model_validate(whole(site, **more))
