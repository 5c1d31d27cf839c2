"""The budget: what is spent, what that means, and what the vacuum controller does about it."""

import asyncio
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from services.accounting.budget import TTL_SECONDS, Budget, Spent, fresh, spent, verdict
from services.accounting.collectors.source import Source
from services.accounting.ledger import Ledger
from services.accounting.main import Accounting, main
from services.accounting.money import Refused
from services.accounting.options import Options, options
from services.accounting.rows import start_of
from services.vacuum.main import Controller
from services.vacuum.objects import pods_path
from tests.services.bills import Answer, serving
from tests.services.stand_in import NAMESPACE, Life, Node, Server, StandInApi, startdset
from tests.services.test_accounting_bills import azure_page, azure_row, azure_source

pytestmark = pytest.mark.fast

TODAY = date(2026, 11, 24)
NOON = start_of(TODAY) + 43_200.0
EURO = 1_000_000
BUDGET = f"/api/v1/namespaces/{NAMESPACE}/configmaps/budget"


@pytest.fixture(autouse=True)
def _quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """What is logged is taken from the test's output."""


def test_of_each_day_the_larger_of_bill_and_estimate_counts() -> None:
    sums = {
        ("2026-11-23", "actual", "EUR"): 30 * EURO,
        ("2026-11-23", "estimated", "EUR"): 20 * EURO,
        ("2026-11-23", "amortised", "EUR"): 99 * EURO,
        ("2026-11-24", "estimated", "EUR"): 7 * EURO,
        ("2026-10-31", "actual", "EUR"): 99 * EURO,
    }
    assert spent(sums, "EUR", TODAY) == Spent(today=7 * EURO, this_month=37 * EURO)


def test_costs_in_another_currency_are_not_added_up() -> None:
    with pytest.raises(Refused, match="write the budget in USD"):
        spent({("2026-11-23", "actual", "USD"): 1}, "EUR", TODAY)


def test_a_budget_of_a_day_and_of_a_month_each_end_what_may_be_spent() -> None:
    budget = Budget(currency="EUR", per_day=10 * EURO, per_month=100 * EURO)

    def over(today: int, month: int) -> bool:
        return bool(verdict(budget, Spent(today=today * EURO, this_month=month * EURO), NOON)["over"])

    assert [over(9, 99), over(10, 50), over(0, 100)] == [False, True, True]
    said = verdict(budget, Spent(today=9 * EURO, this_month=12 * EURO), NOON)
    assert said["message"] == ("9.00 of 10.00 EUR are spent today, 12.00 of 100.00 EUR are spent this month")


def test_what_is_known_of_costs_gets_old() -> None:
    assert fresh(estimated=NOON - 60, billed=None, now=NOON)
    assert fresh(estimated=None, billed=NOON - 86_400, now=NOON)
    assert not fresh(estimated=NOON - 3600, billed=NOON - 3 * 86_400, now=NOON)
    assert not fresh(estimated=None, billed=None, now=NOON)


def told(tmp_path: Path, **more: str) -> Options:
    return options({"SITE": "tide", "LEDGER": str(tmp_path / "ledger.db"), "CURRENCY": "EUR", "VO": "atlas", **more})


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"CURRENCY": "EURO"}, "CURRENCY: the currency is 'EURO'"),
        ({"BUDGET_PER_DAY": "-1"}, "BUDGET_PER_DAY is '-1'; it must be a positive number"),
        ({"CORE_HOUR_PRICE": "cheap"}, "CORE_HOUR_PRICE is 'cheap'"),
        ({"BILL": "oracle"}, "BILL is 'oracle'; it must be one of azure, google, aws"),
        ({"BILL": "google", "EXPORT_TABLE": "x"}, "EXPORT_TABLE is 'x'; it must be as in project.dataset.table"),
        ({"BILL": "azure"}, "SUBSCRIPTION is ''"),
        ({"LEDGER": "relative"}, "LEDGER is 'relative'"),
        ({"BILL_HOURS": "0"}, "BILL_HOURS is '0'"),
    ],
)
def test_a_mistake_in_what_it_is_told_is_one_sentence(more: dict[str, str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be|needed") as error:
        told(tmp_path, **more)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


class Site:
    """A controller and an accounting on one stand-in for an API server; the kubelet's part is `mount`."""

    def __init__(self, tmp_path: Path, source: Source | None = None, **more: str) -> None:
        self.server = Server(now=NOON)
        self.server.objects[BUDGET] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "budget", "namespace": NAMESPACE, "uid": "b", "resourceVersion": "1"},
        }
        startd = {"name": "startd", "image": "startd", "resources": {"requests": {"cpu": "1"}}}
        self.set_path = startdset(self.server, template={"spec": {"restartPolicy": "Never", "containers": [startd]}})
        self.node = Node(self.server, lambda _: Life(code=200, seconds=None))
        self.mounted = tmp_path / "mounted"
        self.mounted.mkdir(exist_ok=True)
        self.options = told(tmp_path, **more)
        self.source = source
        self.books = self.accounting()

    def accounting(self) -> Accounting:
        return Accounting(
            StandInApi(self.server),
            self.options,
            None,
            clock=lambda: self.server.now,
            pools=self.mounted / "no-pools.json",
        )

    def mount(self) -> None:
        for key, text in self.server.objects[BUDGET].get("data", {}).items():
            (self.mounted / key).write_text(text)

    def account(self, books: Accounting | None = None) -> None:
        async def once() -> None:
            turning = books or self.books
            await turning.look()
            await turning.turn()

        asyncio.run(once())
        self.mount()

    def control(self, turns: int = 3) -> None:
        controller = Controller(
            StandInApi(self.server), clock=lambda: self.server.now, budget=self.mounted / "budget.json"
        )

        async def once() -> None:
            await controller.look()
            await controller.turn()

        for _ in range(turns):
            asyncio.run(once())
            self.server.now += 10
            self.node.step()

    @property
    def pods(self) -> int:
        pods = self.server.every(pods_path(NAMESPACE))
        assert not any("deletionTimestamp" in pod["metadata"] for pod in pods)
        return len(pods)

    @property
    def condition(self) -> dict[str, Any]:
        conditions = self.server.objects[self.set_path]["status"]["conditions"]
        return next((each for each in conditions if each["type"] == "WithinBudget"), {})


def test_with_recorded_bills_a_site_that_has_spent_its_budget_makes_no_startd_and_ends_none(tmp_path: Path) -> None:
    def page(cost: float, months_before: int) -> list[Answer]:
        empty = [Answer(azure_page([])) for _ in range(months_before)]
        return [*empty, Answer(azure_page([azure_row(20261124, cost=cost)])), *empty, Answer(azure_page([]))]

    site = Site(
        tmp_path,
        BUDGET_PER_DAY="50",
        BILL="azure",
        SUBSCRIPTION="00000000-0000-0000-0000-000000000001",
        RESOURCE_GROUPS="a,b",
    )
    with serving(lambda _: [*page(49.99, 2), *page(50.0, 0), *page(20.0, 0)]) as bill:
        # Before anything is known nothing is made.
        site.control()
        assert site.pods == 0
        assert (site.condition["status"], site.condition["reason"]) == ("Unknown", "BudgetStale")

        assert site.books.read(lambda: azure_source(bill))
        site.account()
        site.control(1)
        some = site.pods
        assert some > 0
        assert site.condition["status"] == "True"

        # A later bill of the same day says more.
        assert site.books.read(lambda: azure_source(bill))
        site.account()
        site.control()
        assert site.pods == some
        assert (site.condition["status"], site.condition["reason"]) == ("False", "OverBudget")
        assert "50.00 of 50.00 EUR are spent today" in site.condition["message"]
        events = [each["reason"] for each in site.server.every(f"/api/v1/namespaces/{NAMESPACE}/events")]
        assert "OverBudget" in events

        # A refund lowers it, and the site goes on.
        assert site.books.read(lambda: azure_source(bill))
        site.account()
        site.control()
        assert site.pods > some
        assert site.condition["status"] == "True"


def test_a_verdict_that_is_not_renewed_ends_growth_and_no_startd(tmp_path: Path) -> None:
    site = Site(tmp_path, BUDGET_PER_DAY="50", CORE_HOUR_PRICE="0.01")
    site.account()
    site.control(2)
    some = site.pods
    assert some > 0
    site.server.now += TTL_SECONDS + 1
    site.control()
    assert site.pods == some
    assert (site.condition["status"], site.condition["reason"]) == ("Unknown", "BudgetStale")
    site.account()
    site.control()
    assert site.pods > some


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"over": "no", "until": 1}', '{"over": false}'])
def test_a_verdict_that_cannot_be_read_is_no_verdict(tmp_path: Path, text: str) -> None:
    site = Site(tmp_path, BUDGET_PER_DAY="50", CORE_HOUR_PRICE="0.01")
    (site.mounted / "budget.json").write_text(text)
    site.control()
    assert site.pods == 0
    assert site.condition["status"] == "Unknown"


def test_startds_spend_the_budget_by_their_price_and_a_restart_forgets_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, BUDGET_PER_DAY="1", CORE_HOUR_PRICE="0.5")
    site.account()
    site.control(2)
    some = site.pods
    for _ in range(6):
        site.server.now += 1800
        site.account(site.accounting())  # a process of its own each time
    site.control()
    assert site.pods == some
    assert site.condition["reason"] == "OverBudget"
    with Ledger(site.options.ledger) as ledger:
        ((basis, currency), amount), *more = ledger.sums().items()
        assert (basis, currency, more) == ("estimated", "EUR", [])
        assert amount >= EURO


def test_nobody_says_what_may_be_spent_when_nobody_knows_what_was(tmp_path: Path) -> None:
    site = Site(tmp_path, BUDGET_PER_DAY="50")
    site.account()
    assert "data" not in site.server.objects[BUDGET]
    assert site.books.metrics.problems["budget"] == "CostsUnknown"


def test_a_bill_that_cannot_be_read_is_a_problem_with_a_name_and_changes_nothing(tmp_path: Path) -> None:
    site = Site(
        tmp_path,
        BILL="azure",
        SUBSCRIPTION="00000000-0000-0000-0000-000000000001",
        RESOURCE_GROUPS="a,b",
    )
    with serving(lambda _: [Answer({"error": {"message": "no"}}, 403)]) as bill:
        assert not site.books.read(lambda: azure_source(bill))
    assert site.books.metrics.problems == {"azure": "PermissionMissing"}
    with Ledger(site.options.ledger) as ledger:
        assert list(ledger.rows()) == []


def test_the_command_line_tells_of_a_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(tmp_path, BUDGET_PER_DAY="50", CORE_HOUR_PRICE="0.5")
    site.account()
    site.control(2)
    site.server.now += 3600
    site.account()
    for key, value in {"SITE": "tide", "LEDGER": str(site.options.ledger), "CURRENCY": "EUR", "VO": "atlas"}.items():
        monkeypatch.setenv(key, value)
    capsys.readouterr()
    for command in ("costs", "usage", "records", "focus"):
        main([command, "--month", "2026-11"])
    told = capsys.readouterr().out
    assert "estimated" in told
    assert "BilledCost,EffectiveCost" in told
    with pytest.raises(SystemExit):
        main(["costs", "--month", "2026-13"])
    assert "is no month" in capsys.readouterr().err


def test_a_verdict_is_written_again_only_when_it_says_something_new_or_gets_old(tmp_path: Path) -> None:
    site = Site(tmp_path, BUDGET_PER_DAY="50", CORE_HOUR_PRICE="0.01")
    for seconds in (0, 60, 60, TTL_SECONDS // 4):
        site.server.now += seconds
        site.account()
    assert [call for call in site.server.calls if call[1] == BUDGET] == [("PATCH", BUDGET)] * 2
