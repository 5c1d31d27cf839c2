"""HTCondor's logs, read as they grow."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LARGEST_PIECE_BYTES = 4 * 1024 * 1024  # in one look; the rest at the next one


@dataclass(kw_only=True)
class Log:
    """A log that is appended to, and renamed when it is full."""

    path: Path
    _file: BinaryIO | None = None
    _rest: bytes = b""

    def lines(self) -> Iterator[str]:
        """The whole lines that came since the last look."""
        while True:
            if self._file is None:
                try:
                    self._file = self.path.open("rb")
                except FileNotFoundError:
                    return
            *whole, self._rest = (self._rest + self._file.read(LARGEST_PIECE_BYTES)).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
            if not self._renamed():
                return
            self.close()

    def close(self) -> None:
        """Forgets the file; reading begins anew after it."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _renamed(self) -> bool:
        """Whether another file has the name now, and this one is read to its end."""
        assert self._file is not None  # noqa: S101  only called while one is open
        here = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return here.st_ino != there.st_ino and self._file.tell() >= here.st_size
