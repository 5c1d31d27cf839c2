"""What one process at a time may do; the lock is free when its holder ends, however that ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.progress import Progress


@contextmanager
def held(path: Path, progress: Progress, busy: str) -> Iterator[None]:
    """Holds a lock file, and waits for it if need be.

    Args:
        path: the file; made where it is missing.
        progress: where it is told that one waits.
        busy: what another process does meanwhile, in words.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"{busy}, waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
