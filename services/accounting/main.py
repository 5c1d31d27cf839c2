"""The loops: each minute look at the startds, price them and say what may be spent; a few times a day read the bill."""

import argparse
import asyncio
import calendar
import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from services.accounting import attribution, budget, focus, startds, usage
from services.accounting.collectors.prices import Prices, PriceTable
from services.accounting.collectors.source import Source
from services.accounting.ledger import Ledger, days
from services.accounting.metrics import Metrics
from services.accounting.money import Refused, shown
from services.accounting.options import Options, options
from services.accounting.projection import Away, Database, project
from services.accounting.rows import Basis, Reading, day_of
from services.accounting.startds import Startd
from services.events import announce
from services.health import serving
from services.kube import Access, Api, ApiError, Json, in_cluster
from services.process import log, until_told
from services.vacuum.cluster import NodePool
from services.vacuum.model import SET_LABEL
from services.vacuum.objects import pods_path, sets_path, status_of
from services.vacuum.survey import POOLS, read_pools
from services.vacuum.watch import Cache

LOOK_SECONDS = 60.0
# Until startds can be seen.
BLIND_SECONDS = 2.0
# A turn is some calls and some writes; longer, and the loop hangs.
STUCK_SECONDS = 900.0
# Of a bill: the month before is not final for some days, and a new site wants to know of it.
HISTORY = timedelta(days=62)
# Ends of startds come late when the API server was away.
ESTIMATED_AGAIN = timedelta(days=2)
FIRST_PAUSE_SECONDS = 300.0
# Between two writes of what has changed in the time series; a database that is away is tried again sooner, then later.
SERIES_SECONDS, SERIES_FIRST_PAUSE_SECONDS, SERIES_LONGEST_PAUSE_SECONDS = 60.0, 5.0, 300.0
CONFIG_MAP, KEY = "budget", "budget.json"


class Accounting:
    """One site's books.

    Nothing is remembered but for comfort: all that counts is in the ledger, and what is read is read again.
    """

    def __init__(
        self,
        api: Api,
        told: Options,
        source: Callable[[], Source] | None,
        *,
        clock: Callable[[], float] = time.time,
        pools: Path = POOLS,
    ) -> None:
        self._api = api
        self._told = told
        self._source = source
        self._clock = clock
        self._pools_file = pools
        self._seen: dict[str, Startd] = {}
        self._turned: float | None = None
        self._began = time.monotonic()
        self._estimated: float | None = None
        self._billed: float | None = None
        self._published: tuple[float, Json] | None = None
        self._series_asked_pause = 0.0
        changed = asyncio.Event()
        self._pods: Cache[str] = Cache(api, pods_path(api.namespace), self._see, changed, selector=SET_LABEL)
        self._sets: Cache[Json] = Cache(api, sets_path(api.namespace), lambda raw: raw, changed)
        self._nodes: Cache[Mapping[str, str]] = Cache(
            api, "/api/v1/nodes", lambda raw: raw["metadata"].get("labels", {}), changed
        )
        self.metrics = Metrics(clock)

    @property
    def ready(self) -> bool:
        """Whether a turn has been made."""
        return self._turned is not None

    @property
    def turning(self) -> bool:
        """Whether the loop makes progress."""
        return time.monotonic() - (self._turned or self._began) < STUCK_SECONDS

    async def run(self) -> None:
        """Keeps the books for ever."""
        async with asyncio.TaskGroup() as tasks:
            for cache in (self._pods, self._sets, self._nodes):
                tasks.create_task(cache.run())
            tasks.create_task(self._turn_forever())
            if self._source is not None:
                tasks.create_task(self._read_forever(self._source))
            if self._told.series is not None:
                tasks.create_task(self._project_forever(self._told.series))

    async def look(self) -> None:
        """Reads everything anew, as is done at the start and whenever a watch has broken."""
        for cache in (self._pods, self._sets, self._nodes):
            await cache.refresh()

    async def _turn_forever(self) -> None:
        while True:
            seeing = self._pods.fresh and self._sets.fresh
            if seeing or self._turned is not None or time.monotonic() - self._began > LOOK_SECONDS:
                await self.turn()
                self._turned = time.monotonic()
            await asyncio.sleep(LOOK_SECONDS if seeing else BLIND_SECONDS)

    async def _read_forever(self, source: Callable[[], Source]) -> None:
        failures = 0
        while True:
            failures = 0 if await in_thread(lambda: self.read(source)) else failures + 1
            longest = 3600.0 * self._told.bill_hours
            pause = min(longest, FIRST_PAUSE_SECONDS * 2.0 ** (failures - 1)) if failures else longest
            await asyncio.sleep(pause * random.uniform(0.9, 1))  # noqa: S311  spreads clients, guards nothing

    async def _project_forever(self, series: Database) -> None:
        # What an earlier release changed bears no mark.
        done = await in_thread(lambda: self.project(series, whole=True))
        failures = 0 if done else 1
        while True:
            pause = min(SERIES_LONGEST_PAUSE_SECONDS, SERIES_FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
            pause = max(self._series_asked_pause, pause) if failures else SERIES_SECONDS
            await asyncio.sleep(pause * random.uniform(0.9, 1))  # noqa: S311  spreads clients, guards nothing
            failures = 0 if await in_thread(lambda: self.project(series)) else failures + 1

    def project(self, series: Database, *, whole: bool = False) -> bool:
        """Writes what the time series have not got yet; whether they now have all of it.

        Args:
            series: where they are.
            whole: whether the last months are compared again, and not only what is known to have changed.
        """
        site, now = self._told.site, self._clock()
        self._series_asked_pause = 0.0
        try:
            with Ledger(self._told.ledger) as ledger:
                if whole:
                    ledger.mark(site, day_of(now) - HISTORY, day_of(now))
                try:
                    number = project(ledger, site, self._told.hs23, series)
                finally:
                    self.metrics.series_waiting = len(ledger.changed(site))
        except Refused as refused:
            if isinstance(refused, Away):
                self._series_asked_pause = refused.pause
            self._problem("series", refused)
            return False
        self.metrics.points.inc(number)
        self.metrics.series_whole = now
        self.metrics.problems.pop("series", None)
        return True

    async def turn(self) -> None:
        """Writes down what there is, prices it, and says what may be spent."""
        try:
            self._write()
            verdict = self._judge()
        except Refused as refused:
            self._problem("ledger", refused)
            return
        if verdict is not None:
            await self._publish(verdict)

    def read(self, source: Callable[[], Source]) -> bool:
        """Reads the bill of all days that are not final; whether all of it was taken."""
        now = self._clock()
        today = day_of(now)
        name = self._told.bill
        try:
            bill = source()
            with Ledger(self._told.ledger) as ledger:
                for basis in bill.bases:
                    first = ledger.first_open(self._told.site, bill.name, basis, today - HISTORY, today)
                    self._take(ledger, bill, basis, first, today, now)
                self.metrics.gaps[name] = len(ledger.gaps(self._told.site, bill.name, Basis.ACTUAL))
        except Refused as refused:
            self.metrics.readings.labels(name, "failed").inc()
            self._problem(name, refused)
            return False
        self._billed = self.metrics.read[name] = now
        self.metrics.problems.pop(name, None)
        self.metrics.readings.labels(name, "read").inc()
        return True

    def _take(self, ledger: Ledger, source: Source, basis: Basis, first: date, last: date, now: float) -> None:
        taken = ledger.take(
            Reading(
                source=source.name,
                site=self._told.site,
                basis=basis,
                first=first,
                last=last,
                as_of=int(now),
                pages=source.pages(basis, first, last),
            )
        )
        self.metrics.rows.labels(source.name).inc(taken.rows)
        if taken.withdrawn or source.name == self._told.bill:
            log(event="read", source=source.name, basis=basis, first=str(first), rows=taken.rows, gone=taken.withdrawn)

    def _see(self, raw: Json) -> str:
        """Takes note of a pod whenever the API server tells of it, above all of its end; its UID."""
        uid = str(raw["metadata"]["uid"])
        startd = startds.startd_of(raw, self._told.vo)
        if startd is not None:
            self._seen[uid] = startd
        return uid

    def _write(self) -> None:
        now, site = self._clock(), self._told.site
        pools = self._pools()
        with Ledger(self._told.ledger) as ledger:
            if self._pods.fresh:
                there = set(self._pods.objects.values())
                # One that has gone without telling its end is left as it was seen last; its outcome may tell.
                gone = [uid for uid, each in self._seen.items() if uid not in there and each.ended is None]
                for uid in gone:
                    del self._seen[uid]
                nodes = {name: startds.pool_of(labels, pools) for name, labels in self._nodes.objects.items()}
                startds.record(ledger, site, self._seen.values(), nodes, now)
                self._seen = {uid: each for uid, each in self._seen.items() if each.ended is None or uid in there}
            if self._sets.fresh:
                for startdset in self._sets.objects.values():
                    recent = status_of(startdset).recent
                    startds.end(ledger, site, [(outcome.name, outcome.at) for outcome in recent])
                    labels = startdset["spec"]["template"].get("metadata", {}).get("labels", {})
                    usage.note(ledger, site, startdset, labels.get(startds.VO_LABEL) or self._told.vo, now)
            # Startds that are seen, or end, belong to days back to when they began.
            today, began = day_of(now), day_of(min((each.began for each in self._seen.values()), default=now))
            ledger.mark(site, max(today - HISTORY, min(began, today - ESTIMATED_AGAIN)), today)
            prices = Prices(currency=self._told.currency, pools=pools, core_hour=self._told.core_hour)
            if prices.known and self._pods.fresh:
                self._estimate(ledger, PriceTable(ledger, site, prices), now)

    def _estimate(self, ledger: Ledger, table: PriceTable, now: float) -> None:
        today = day_of(now)
        try:
            self._take(ledger, table, Basis.ESTIMATED, today - ESTIMATED_AGAIN, today, now)
        except Refused as refused:
            self._problem(table.name, refused)
            return
        self._estimated = self.metrics.read[table.name] = now
        self.metrics.problems.pop(table.name, None)

    def _pools(self) -> Sequence[NodePool]:
        try:
            return read_pools(self._pools_file) or ()
        except ValueError as error:
            raise Refused("PoolsUnreadable", str(error)) from None

    def _judge(self) -> Json | None:
        """The verdict; None without a budget, or if nobody knows what is spent."""
        now, told = self._clock(), self._told
        today = day_of(now)
        with Ledger(told.ledger) as ledger:
            sums = {
                (day, basis, currency): amount
                for (day, basis, currency), amount in ledger.sums(
                    "day", site=told.site, first=today.replace(day=1), last=today
                ).items()
            }
        spent = budget.spent(sums, told.currency, today)
        self.metrics.problems.pop("ledger", None)
        self.metrics.spent = {("day", told.currency): spent.today, ("month", told.currency): spent.this_month}
        if told.budget is None:
            return None
        limits = {("day", told.currency): told.budget.per_day, ("month", told.currency): told.budget.per_month}
        self.metrics.limits = {labels: limit for labels, limit in limits.items() if limit is not None}
        if not budget.fresh(estimated=self._estimated, billed=self._billed, now=now):
            self.metrics.over = None
            self._problem(
                "budget",
                Refused(
                    "CostsUnknown",
                    "what was spent is unknown: no bill was read for two days, and startds have no price; no startd is "
                    "made until that is mended",
                ),
            )
            return None
        self.metrics.problems.pop("budget", None)
        found = budget.verdict(told.budget, spent, now)
        self.metrics.over = bool(found["over"])
        return found

    async def _publish(self, verdict: Json) -> None:
        """Writes the verdict for the vacuum controller, if it says something new or the old one is getting old."""
        now = self._clock()
        if self._published is not None:
            when, before = self._published
            same = (before["over"], before["message"]) == (verdict["over"], verdict["message"])
            if same and now - when < budget.TTL_SECONDS / 4:
                return
        path = f"/api/v1/namespaces/{self._api.namespace}/configmaps/{CONFIG_MAP}"
        try:
            written = await self._api.patch(path, {"metadata": {}, "data": {KEY: json.dumps(verdict)}})
        except ApiError as error:
            self.metrics.problems["budget"] = "VerdictUnwritten"
            log(event="problem", source="budget", message=f"ConfigMap {CONFIG_MAP}: it cannot be written ({error})")
            return
        turned = self._published is None or self._published[1]["over"] != verdict["over"]
        self._published = (now, verdict)
        if turned:
            log(event="budget", over=verdict["over"], message=verdict["message"])
            if verdict["over"]:
                message = f"{verdict['message']}: no more startds are made, and none is stopped"
                await announce(
                    self._api,
                    written,
                    component="accounting",
                    reason="OverBudget",
                    message=message,
                    warning=True,
                    now=now,
                    once=True,
                )

    def _problem(self, source: str, refused: Refused) -> None:
        if self.metrics.problems.get(source) != refused.reason:
            log(event="problem", source=source, reason=refused.reason, message=str(refused))
        self.metrics.problems[source] = refused.reason


async def in_thread(work: Callable[[], bool]) -> bool:
    """Does work that blocks in a thread that nobody waits for at the end: a bill may keep one waiting for long."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def tell(outcome: bool | Exception) -> None:  # noqa: FBT001  a result, not a switch
        if done.cancelled():
            return
        if isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)

    def run() -> None:
        outcome: bool | Exception
        try:
            outcome = work()
        except Exception as error:  # noqa: BLE001  told to whoever waits
            outcome = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, outcome)

    threading.Thread(target=run, daemon=True).start()
    return await done


def source_of(told: Options) -> Callable[[], Source] | None:
    """Makes the reader of the bill that the options name; the clouds' SDKs are imported only where they are used."""
    match told.bill:
        case "azure":

            def make() -> Source:
                from azure.identity import WorkloadIdentityCredential  # noqa: PLC0415

                from services.accounting.collectors.azure import Azure  # noqa: PLC0415

                try:
                    credential = WorkloadIdentityCredential()
                except ValueError as error:
                    raise Refused(
                        "PermissionMissing",
                        f"azure: the pod has no identity ({error}); set accounting.bill.identity, and let the identity "
                        "trust the service account accounting (docs/runbooks/cost.md)",
                    ) from None
                return Azure(credential, told.subscription, told.groups)

        case "google":

            def make() -> Source:
                from services.accounting.collectors.google import Google, metadata_token  # noqa: PLC0415

                return Google(metadata_token, told.table, told.site)

        case "aws":

            def make() -> Source:
                from services.accounting.collectors.aws import Aws, web_identity  # noqa: PLC0415

                return Aws(lambda: web_identity(told.role), told.site)

        case _:
            return None
    return make


async def _serve(access: Access, told: Options) -> None:
    """Runs until it is told to stop; what is in the ledger stays."""
    api = Api(access, observe=lambda verb, code: books.metrics.requests.labels(verb, code).inc())
    books = Accounting(api, told, source_of(told))
    registry = books.metrics.registry
    try:
        async with serving(told.port, registry, healthy=lambda: books.turning, ready=lambda: books.ready):
            await until_told(books.run())
    finally:
        await api.close()


def _month(text: str) -> tuple[date, date]:
    parts = re.fullmatch(r"(20[0-9]{2})-(0[1-9]|1[0-2])", text)
    if parts is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no month; one as in 2026-11 is needed")
    year, month = int(parts[1]), int(parts[2])
    return date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1])


def costs(ledger: Ledger, site: str, first: date, last: date) -> str:
    """For people: what each pool and set cost, a line for each basis and currency."""
    lines = ["POOL  SET  BASIS  AMOUNT"]
    sums: dict[tuple[str, str, str, str], int] = {}
    for (_, pool, startd_set, basis, currency), amount in attribution.attributed(ledger, site, first, last).items():
        key = (pool, startd_set, basis, currency)
        sums[key] = sums.get(key, 0) + amount
    lines += [
        f"{pool or '-'}  {startd_set or '-'}  {basis}  {shown(amount)} {currency}"
        for (pool, startd_set, basis, currency), amount in sorted(sums.items())
    ]
    return "\n".join(lines)


def daily(ledger: Ledger, site: str, hs23: str, first: date, last: date) -> Json:
    """For `report`: what each day cost, in millionths, and what each set did on it, in seconds of a core."""
    charged = attribution.attributed(ledger, site, first, last)
    return {
        "site": site,
        "costs": [
            {"day": day, "pool": pool, "set": startd_set, "basis": basis, "currency": currency, "micros": amount}
            for (day, pool, startd_set, basis, currency), amount in sorted(charged.items())
        ],
        "usage": [
            {
                "day": day.isoformat(),
                "set": each.startd_set,
                "vo": each.vo,
                "held": each.held,
                "ended": each.ended,
                "busy": each.busy,
                "lost": each.lost,
                "cpu": each.cpu,
                "hs23Hours": None if (scored := each.hs23_hours(hs23)) is None else float(scored),
            }
            for day in days(first, last)
            for each in usage.usages(ledger, site, day, day)
        ],
    }


def _tell(what: str, ledger: Ledger, told: Options, first: date, last: date) -> None:
    match what:
        case "rebuild":
            ledger.retarget(told.site, "")
            sys.stdout.write("all time series are written again, within a minute or two\n")
        case "costs":
            sys.stdout.write(costs(ledger, told.site, first, last) + "\n")
        case "usage":
            sys.stdout.write(usage.table(usage.usages(ledger, told.site, first, last), told.hs23) + "\n")
        case "daily":
            sys.stdout.write(json.dumps(daily(ledger, told.site, told.hs23, first, last)) + "\n")
        case "records":
            for each in startds.auditor_records(ledger, told.site, first, last, told.hs23):
                sys.stdout.write(json.dumps(each) + "\n")
        case _:
            focus.write(ledger.rows(), first, last, sys.stdout)


def main(words: Sequence[str] | None = None) -> None:
    """The command line: without words the service, with one what the ledger holds of a month."""
    parser = argparse.ArgumentParser(prog="services.accounting", description="Keeps a site's books.")
    commands = parser.add_subparsers(dest="command")
    for name, what in (
        ("costs", "what each pool and set cost"),
        ("usage", "what each set did with its time"),
        ("daily", "what each day cost and each set did on it, as JSON"),
        ("records", "each startd that ended, as AUDITOR takes it, a line of JSON each"),
        ("focus", "all rows, as CSV with the columns of FOCUS"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--month", type=_month, default=f"{datetime.now(UTC):%Y-%m}", help="as in 2026-11")
    commands.add_parser("rebuild", help="has the service write all time series again, as into an empty database")
    arguments = parser.parse_args(words)
    try:
        told = options(os.environ)
    except ValueError as error:
        sys.exit(f"accounting: {error}")
    if arguments.command is None:
        asyncio.run(_serve(in_cluster(), told))
        return
    first, last = getattr(arguments, "month", (date.min, date.max))
    try:
        with Ledger(told.ledger) as ledger:
            _tell(arguments.command, ledger, told, first, last)
    except Refused as refused:
        sys.exit(f"accounting: {refused}")
