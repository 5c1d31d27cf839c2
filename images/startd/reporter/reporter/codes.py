"""The classes of outcome, by number as in Vac's shutdown messages."""

from collections.abc import Mapping
from enum import IntEnum


class Code(IntEnum):
    """What became of a startd; the first word of the pod's last message."""

    ASKED = 100
    WORKED = 200
    NO_WORK = 300
    BANNED = 400
    SITE_FAULT = 500
    GRID_FAULT = 600
    TRANSIENT = 700

    @property
    def exit_code(self) -> int:
        """Of the container, for tools that read no message."""
        return _EXIT_CODES[self]


_EXIT_CODES: Mapping[Code, int] = {
    Code.ASKED: 10,
    Code.WORKED: 0,
    Code.NO_WORK: 3,
    Code.BANNED: 4,
    Code.SITE_FAULT: 5,
    Code.GRID_FAULT: 6,
    Code.TRANSIENT: 7,
}
