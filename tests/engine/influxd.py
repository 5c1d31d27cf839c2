"""A real InfluxDB 1.x, as Debian packages it, on loopback."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from local import packages
from local.progress import Progress

INFLUXD = "/usr/bin/influxd"
CONFIGURATION = """\
reporting-disabled = true
bind-address = "127.0.0.1:{other}"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  auth-enabled = {auth}
  log-enabled = false
[monitor]
  store-enabled = false
"""


def ensure(log: Path) -> None:
    """Installs it where it is missing."""
    packages.ensure({INFLUXD: "influxdb"}, purpose="InfluxDB", log=log, progress=Progress(total=0))


class Influxd:
    """One server; what it was told outlives it, as on a volume."""

    def __init__(self, directory: Path, *, auth: bool = False) -> None:
        self.port, other = _free(), _free()
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._file = directory / "influxdb.conf"
        self._file.write_text(
            CONFIGURATION.format(directory=directory, port=self.port, other=other, auth=str(auth).lower())
        )
        self.start()

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [INFLUXD, "run", "-config", str(self._file)], stdout=log, stderr=log, env={**os.environ, "HOME": "/"}
            )
        until = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/ping", timeout=5).raise_for_status()
            except httpx.HTTPError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise AssertionError((self._directory / "log").read_text()[-2000:]) from None
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        """As a node that is lost does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def ask(self, query: str, database: str = "", **more: str) -> list[dict[str, Any]]:
        """The rows of an answer, each with its tags."""
        answer = httpx.post(
            f"{self.url}/query", params={"q": query, "db": database, "epoch": "s", **more}, timeout=30
        ).json()
        (result,) = answer["results"]
        assert "error" not in result, result
        return [
            {**series.get("tags", {}), **dict(zip(series["columns"], row, strict=True))}
            for series in result.get("series", ())
            for row in series["values"]
        ]


def amounts(rows: list[dict[str, Any]], *tags: str) -> Mapping[tuple[str, ...], float]:
    """Sums of a field `amount` by tags, without those that are 0."""
    found: dict[tuple[str, ...], float] = {}
    for row in rows:
        key = tuple(row.get(tag) or "" for tag in tags)
        found[key] = found.get(key, 0) + row["amount"]
    return {key: round(amount, 6) for key, amount in found.items() if round(amount, 6)}


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
