"""Watches all pods as bytes, at next to no cost, and notes when each was made, ran and ended."""

import http.client
import re
import threading
import time
from dataclasses import dataclass, field

from benchmarks.vacuum_scale.plane import DRIVER, HOST, Plane

KIND = re.compile(rb'^\{"type":"(\w+)"')
NAME = re.compile(rb'"metadata":\{"name":"([^"]+)"')
VERSION = re.compile(rb'"resourceVersion":"(\d+)"')
# The phase of the pod is the first one in its status; nothing before it has a key of that name.
PHASE = re.compile(rb'"phase":"(\w+)"')
PATIENCE_SECONDS = 3600


@dataclass
class Observer:
    """What has been seen since it began, each on the monotonic clock.

    Attributes:
        made: when each pod appeared, by name.
        ran: when each was seen Running first.
        ended: when each was seen Succeeded first.
        gone: names that are no more.
    """

    plane: Plane
    made: dict[str, float] = field(default_factory=dict)
    ran: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    @property
    def alive(self) -> int:
        """Pods that are there and have not ended."""
        return len(self.made) - len(self.gone.union(self.ended))

    @property
    def running(self) -> int:
        """Of them, those that run."""
        return len(self.ran) - len(self.gone.union(self.ended).intersection(self.ran))

    def begin(self) -> None:
        """From now on, in a thread."""
        threading.Thread(target=self._watch, args=(self._open("0"),), daemon=True).start()

    def _open(self, version: str) -> http.client.HTTPResponse:
        context = self.plane.tls(DRIVER)
        connection = http.client.HTTPSConnection(HOST, self.plane.port, context=context, timeout=PATIENCE_SECONDS)
        connection.request("GET", f"/api/v1/pods?watch=1&timeoutSeconds={PATIENCE_SECONDS}&resourceVersion={version}")
        return connection.getresponse()

    def _watch(self, response: http.client.HTTPResponse) -> None:
        version = "0"
        try:
            while True:
                while line := response.readline():
                    self._take(line, time.monotonic())
                    if found := VERSION.search(line):
                        version = found[1].decode()
                # On a busy machine the API server gives up a watcher that does not keep pace: it goes on from there.
                response = self._open(version)
        except (OSError, http.client.HTTPException):
            return  # the control plane ends before we do

    def _take(self, line: bytes, now: float) -> None:
        kind, name, phase = KIND.search(line), NAME.search(line), PHASE.search(line)
        if kind is None or name is None:
            return
        who = name[1].decode()
        self.made.setdefault(who, now)
        match phase and phase[1]:
            case b"Running":
                self.ran.setdefault(who, now)
            case b"Succeeded":
                self.ended.setdefault(who, now)
        if kind[1] == b"DELETED":
            self.gone.add(who)
