"""Keeps the components' logs bounded: a program of its own that looks at them once a minute.

The components append to their files and know no rotation. Run by path, on the standard library alone, so that it stays
small: `python -I logs.py DIRECTORY`.
"""

import sys
import time
from pathlib import Path

LIMIT_BYTES = 16 * 2**20
KEEP_BYTES = 4 * 2**20
PERIOD_SECONDS = 60.0


def trim(log: Path, *, limit: int = LIMIT_BYTES, keep: int = KEEP_BYTES) -> bool:
    """Cuts a log that grew beyond `limit` bytes down to its last whole lines, `keep` bytes at most.

    Its writer appends, so what it writes next lands behind them. A line that it writes in between is lost.
    """
    if log.stat().st_size <= limit:
        return False
    with log.open("r+b") as file:
        file.seek(-keep, 2)
        tail = file.read().partition(b"\n")[2]
        file.seek(0)
        file.write(tail)
        file.truncate()
    return True


def main(directory: Path) -> None:
    """Watches a directory for ever."""
    while True:
        for log in directory.glob("*.log"):
            trim(log)
        time.sleep(PERIOD_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
