"""How the pages write numbers and times. Pure."""

from datetime import UTC, datetime

UNKNOWN = "unknown"
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def number(value: float | None) -> str:
    """A count; with thin spaces between thousands."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", "\u202f")


def duration(seconds: float | None) -> str:
    """A span of time, as in 3 h or 12 min, in the largest unit of which there are two, or the next."""
    if seconds is None:
        return UNKNOWN
    whole = max(0, int(seconds))
    size, unit = next(((size, unit) for size, unit in _UNITS if whole >= 2 * size), _UNITS[-1])
    return f"{whole // size} {unit}"


def moment(seconds: float | None) -> str:
    """A time of day with its date, in UTC."""
    return "never" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def money(value: float, currency: str = "") -> str:
    """An amount to the hundredth."""
    return f"{value:,.2f} {currency}".strip().replace(",", "\u202f")


def percent(share: float | None) -> str:
    """A share of 1."""
    return UNKNOWN if share is None else f"{100 * share:.0f} %"


def spaced(word: str) -> str:
    """BackingOff as people write it: backing off."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in word).strip()
