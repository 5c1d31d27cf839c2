"""What the process of every service does: log lines of JSON, and an end as soon as it is told to."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Coroutine


def log(**fields: object) -> None:
    """One line to standard output."""
    sys.stdout.write(json.dumps({"time": round(time.time(), 3), **fields}) + "\n")
    sys.stdout.flush()


async def until_told(work: Coroutine[object, object, None]) -> None:
    """Runs a service's loop until SIGTERM or SIGINT."""
    task = asyncio.create_task(work)
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log(event="stopped")
