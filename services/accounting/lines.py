"""The line protocol of InfluxDB: how a point of a time series is written. Pure.

https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/
"""

import re
from collections.abc import Mapping
from decimal import Decimal

_SPECIAL = re.compile(r"([,= ])")
# Neither can be escaped, and a backslash at the end would escape what comes after it.
_UNWRITABLE = str.maketrans({"\\": "%5C", "\n": "%0A", "\r": "%0D"})
_NUMBER = re.compile(r"=[^,i]*(i?)")


def series(measurement: str, tags: Mapping[str, str]) -> str:
    """The name of a series: tags in order, without those that are empty, for which the protocol has no word."""
    return ",".join([_word(measurement), *(f"{_word(key)}={_word(tags[key])}" for key in sorted(tags) if tags[key])])


def fields(values: Mapping[str, int | Decimal]) -> str:
    """The values of a point: whole numbers stay whole, others are written in full."""
    return ",".join(
        f"{_word(key)}={value}i" if isinstance(value, int) else f"{_word(key)}={value:f}"
        for key, value in sorted(values.items())
    )


def nought(written: str) -> str:
    """The same fields, all 0: what was written cannot be taken back, but overwritten."""
    return _NUMBER.sub(r"=0\1", written)


def line(name: str, written: str, time: int) -> str:
    """A point, for `precision=s`.

    Args:
        name: of the series.
        written: its fields.
        time: POSIX seconds.
    """
    return f"{name} {written} {time}"


def _word(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text.translate(_UNWRITABLE))
