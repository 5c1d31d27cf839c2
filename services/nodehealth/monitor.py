"""What runs on each node: it reads the kernel's log and the repositories, and writes what it finds as conditions."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.health import serving
from services.kube import Access, Api, ApiError, Json
from services.nodehealth import settings, software
from services.nodehealth.kmsg import DEVICE, Log, booted
from services.nodehealth.objects import MONITOR_SECONDS
from services.nodehealth.rules import Condition, Line, Rules, judge, read, remember
from services.process import log, until_told
from services.times import seconds, timestamp

READ_SECONDS = 2.0
LOOK_SECONDS = 30.0
# A look may wait for a repository that hangs, and a write for the API server; longer means the loop hangs.
STUCK_SECONDS = 300.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a monitor watches.

    Attributes:
        node: that it runs on.
        repositories: their directories.
        quiet: seconds without a sign after which a problem is over.
        device: the kernel's log.
    """

    node: str
    repositories: Sequence[Path]
    quiet: float
    device: Path = DEVICE


@dataclass
class Metrics:
    """By the names that node-problem-detector gives them, and what it has not."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.lines = Counter("problem_counter", "Lines of the kernel's log, by what they mean", ["reason"],
                             registry=self.registry)  # fmt: skip
        self.problem = Gauge("problem_gauge", "1 for a problem that there is now", ["type"], registry=self.registry)
        self.errors = Gauge("cvmfs_io_errors", "Reads that the client has failed since it mounted the repository",
                            ["repository"], registry=self.registry)  # fmt: skip
        self.readable = Gauge("cvmfs_repository_readable", "1 if it can be read on this node", ["repository"],
                              registry=self.registry)  # fmt: skip
        self.setting = Gauge("node_setting_good", "1 if the node has the setting", ["setting"],
                             registry=self.registry)  # fmt: skip


class Monitor:
    """One node's monitor."""

    def __init__(self, api: Api, task: Task, rules: Rules, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._task = task
        self._rules = rules
        self._clock = clock
        self._lines: list[Line] = []
        self._carried: dict[str, Condition] = {}
        self._history = software.History()
        self._errors: dict[Path, int] = {}
        self._written: list[Condition] = []
        self._written_at = 0.0
        self._since: dict[str, tuple[bool, str]] = {}
        self._turned = time.monotonic()
        self.metrics = Metrics()

    @property
    def turning(self) -> bool:
        """Whether the loop makes progress."""
        return time.monotonic() - self._turned < STUCK_SECONDS

    async def run(self) -> None:
        """Watches for ever.

        Raises:
            OSError: the kernel's log cannot be read.
        """
        kernel = Log(self._task.device)
        try:
            await self._recall()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._look_forever())
                while True:
                    self.hear(kernel.read())
                    await self.tell()
                    self._turned = time.monotonic()
                    await asyncio.sleep(READ_SECONDS)
        finally:
            kernel.close()

    async def _recall(self) -> None:
        """Takes over what only a reboot takes back: the kernel may have forgotten the line since."""
        lasting = {rule.reason for rule in self._rules.rules if rule.condition and rule.lookback == float("inf")}
        node = await self._eventually_read()
        for each in node.get("status", {}).get("conditions", ()):
            kind = each["type"]
            if kind in self._rules.well or kind == software.WELL.kind:
                self._since[kind] = (each["status"] == "True", each["lastTransitionTime"])
            since = seconds(each.get("lastTransitionTime")) or 0.0
            if kind in self._rules.well and each["status"] == "True" and each["reason"] in lasting and since > booted():
                self._carried[kind] = Condition(kind=kind, true=True, reason=each["reason"], message=each["message"])

    async def _eventually_read(self) -> Json:
        while True:
            try:
                return await self._api.get(f"/api/v1/nodes/{self._task.node}")
            except ApiError as error:
                log(event="refused", node=self._task.node, status=error.status, message=str(error))
                self._turned = time.monotonic()
                await asyncio.sleep(READ_SECONDS)

    def hear(self, lines: Sequence[Line]) -> None:
        """Takes in lines of the log."""
        for line in lines:
            for reason in dict.fromkeys(rule.reason for rule in self._rules.rules if rule.matches(line)):
                self.metrics.lines.labels(reason).inc()
                log(event="kernel", reason=reason, line=line.text)
        self._lines = remember(self._rules, [*self._lines, *lines], now=self._clock(), quiet=self._task.quiet)

    async def _look_forever(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Looks at each repository."""
        troubles = []
        for place in self._task.repositories:
            seen = await software.look(place)
            more = seen.errors - self._errors.get(place, seen.errors)
            if not seen.why:
                self._errors[place] = seen.errors
                self.metrics.errors.labels(place.name).set(seen.errors)
            why = seen.why or (f"{more} reads have failed since the last look" if more > 0 else "")
            self.metrics.readable.labels(place.name).set(not why)
            troubles += [f"{place.name}: {why}"] if why else []
        self._history = software.after(self._history, "; ".join(troubles), now=self._clock(), quiet=self._task.quiet)

    def conditions(self) -> list[Condition]:
        """What is known now."""
        judged = {**judge(self._rules, self._lines, now=self._clock(), quiet=self._task.quiet), **self._carried}
        return [*judged.values(), *([self._history.condition] if self._task.repositories else [])]

    async def tell(self) -> None:
        """Writes the conditions, if they have changed or it is time for a sign of life."""
        now, conditions = self._clock(), self.conditions()
        if conditions == self._written and now - self._written_at < MONITOR_SECONDS:
            return
        body = {"status": {"conditions": [self._condition(each, timestamp(now)) for each in conditions]}}
        try:
            await self._api.patch(f"/api/v1/nodes/{self._task.node}/status", body, strategic=True)
        except ApiError as error:
            log(event="refused", node=self._task.node, status=error.status, message=str(error))
            return
        for each in conditions:
            self.metrics.problem.labels(each.kind).set(each.true)
            if each not in self._written:
                log(event="condition", type=each.kind, true=each.true, reason=each.reason, message=each.message)
        self._written, self._written_at = conditions, now

    def _condition(self, condition: Condition, now: str) -> Json:
        true, since = self._since.get(condition.kind, (None, now))
        if true is not condition.true:
            since = now
        self._since[condition.kind] = (condition.true, since)
        return {
            "type": condition.kind,
            "status": str(condition.true),
            "reason": condition.reason,
            "message": condition.message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": since,
        }


async def monitor(access: Access, task: Task, port: int) -> None:
    """Runs until it is told to stop.

    Raises:
        OSError: the kernel's log cannot be read.
        ValueError: the rules cannot be used.
    """
    api = Api(access)
    watcher = Monitor(api, task, read())
    for setting in settings.look():
        watcher.metrics.setting.labels(setting.name).set(setting.good)
        if not setting.good:
            log(event="setting", name=setting.name, have=setting.have, why=setting.why, source=setting.source)
    registry = watcher.metrics.registry
    try:
        async with serving(port, registry, healthy=lambda: watcher.turning, ready=lambda: watcher.turning):
            await until_told(watcher.run())
    finally:
        await api.close()


def task_of(environment: Mapping[str, str]) -> Task:
    """The task that a pod's environment sets.

    Raises:
        ValueError: a variable is missing or no number.
    """
    try:
        root = Path(environment.get("REPOSITORIES_ROOT", "/cvmfs"))
        names = [name for name in environment.get("REPOSITORIES", "").split(",") if name]
        return Task(
            node=environment["NODE_NAME"],
            repositories=[root / name for name in names],
            quiet=float(environment["QUIET_SECONDS"]),
        )
    except KeyError as missing:
        raise ValueError(f"variable {missing.args[0]} is missing") from None
