"""Times as the API server writes them, RFC 3339 in UTC, and as POSIX seconds."""

from datetime import UTC, datetime


def seconds(timestamp: str | None) -> float | None:
    """POSIX seconds of an RFC 3339 timestamp; None for none and for the zero that a container which never ran has."""
    if not timestamp:
        return None
    return datetime.fromisoformat(timestamp).timestamp() or None


def timestamp(time: float) -> str:
    """The RFC 3339 timestamp of POSIX seconds, to the second."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def precise(time: float) -> str:
    """The same to the microsecond, as Leases have it."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
