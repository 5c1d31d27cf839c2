"""The kernel's log: /dev/kmsg, from the oldest line that the kernel still has to each new one."""

import errno
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from services.nodehealth.rules import Line

DEVICE = Path("/dev/kmsg")
RECORD_BYTES = 8192  # no record is longer
_RECORD = re.compile(r"\d+,\d+,(?P<micros>\d+),[^;]*;(?P<text>[^\n]*)")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


def parse(record: str, booted: float) -> Line | None:
    r"""A record `priority,sequence,microseconds,flags;text`; None if it is none.

    Args:
        record: as it is read, perhaps with lines ` KEY=value` after the first one.
        booted: POSIX seconds.
    """
    parts = _RECORD.match(record)
    if parts is None:
        return None
    text = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), parts["text"])
    return Line(at=booted + int(parts["micros"]) / 1e6, text=text)


def booted() -> float:
    """When the node was started, by the clock that the kernel's log goes by, in POSIX seconds."""
    return time.time() - time.monotonic()


class Log:
    """The device, opened."""

    def __init__(self, device: Path = DEVICE, start: Callable[[], float] = booted) -> None:
        """Opens it.

        Raises:
            OSError: it is not there or may not be read.
        """
        self._file = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
        self._start = start

    def close(self) -> None:
        """Closes it."""
        os.close(self._file)

    def read(self) -> list[Line]:
        """All lines that have come since, without waiting; what the kernel has overwritten meanwhile is left out."""
        lines: list[Line] = []
        while True:
            try:
                record = os.read(self._file, RECORD_BYTES)
            except BlockingIOError:
                return lines
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten; the next read goes on with the oldest there is
                    continue
                raise
            if not record:
                return lines
            line = parse(record.decode(errors="replace"), self._start())
            if line is not None:
                lines.append(line)
