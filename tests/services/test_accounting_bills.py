"""The clouds' bills, as recorded answers of their APIs: pages, patience, corrections, and what cannot be used."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.pipeline.policies import HeadersPolicy

from services.accounting.collectors import aws, azure, google
from services.accounting.collectors.source import Caller, Source, day_from
from services.accounting.ledger import Ledger
from services.accounting.money import Refused
from services.accounting.rows import Basis, Reading, Row
from tests.services.bills import Answer, Bill, serving

pytestmark = pytest.mark.fast

FIRST, LAST = date(2026, 11, 23), date(2026, 11, 24)
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"


class NoCredential:
    """Nothing to prove: the stand-in asks for no token."""

    def get_token(self, *_scopes: str, **_more: Any) -> AccessToken:
        return AccessToken("none", 2**31)


def azure_page(rows: list[list[Any]], onward: str | None = None) -> dict[str, Any]:
    """As Cost Management answers; the order of columns differs from the documented one on purpose."""
    names = [("UsageDate", "Number"), ("Meter", "String"), ("TagKey", "String"), ("TagValue", "String")]
    columns = [{"name": name, "type": kind} for name, kind in [*names, ("Cost", "Number"), ("Currency", "String")]]
    return {
        "id": "x",
        "name": "x",
        "type": "Microsoft.CostManagement/query",
        "properties": {"nextLink": onward, "columns": columns, "rows": rows},
    }


def azure_row(
    day: int = 20261123, meter: str = "D16ds v5", pool: str | None = "jobs-1", cost: float = 1.5
) -> list[Any]:
    return [day, meter, "atlas-sites-pool", pool, cost, "EUR"]


def azure_source(bill: Bill) -> Source:
    return azure.Azure(
        NoCredential(),
        SUBSCRIPTION,
        ["atlas-tide", "atlas-tide-nodes"],
        api=bill.url,
        authentication_policy=HeadersPolicy({"Authorization": "Bearer none"}),
    )


def google_page(rows: list[list[str]], token: str = "", *, complete: bool = True) -> dict[str, Any]:
    names = ["day", "service", "meter", "currency", "pool", "cost"]
    page: dict[str, Any] = {"jobReference": {"jobId": "j", "location": "EU"}, "jobComplete": complete}
    if complete:
        page["schema"] = {"fields": [{"name": name, "type": "STRING"} for name in names]}
        page["rows"] = [{"f": [{"v": value} for value in row]} for row in rows]
    return page | ({"pageToken": token} if token else {})


def google_row(day: str = "20261123", meter: str = "C3 core (1)", cost: str = "1.50") -> list[str]:
    return [day, "Compute Engine", meter, "EUR", "jobs-1", cost]


def google_source(bill: Bill, sleep: Callable[[float], None] = lambda _: None) -> Source:
    return google.Google(lambda: "t", "billing.export.v1", "tide", api=bill.url, sleep=sleep)


def aws_page(rows: list[tuple[str, str, str]], token: str = "", metric: str = "UnblendedCost") -> dict[str, Any]:
    results = [
        {
            "TimePeriod": {"Start": day, "End": day},
            "Estimated": True,
            "Groups": [
                {"Keys": [usage, "atlas-sites-pool$jobs-1"], "Metrics": {metric: {"Amount": cost, "Unit": "USD"}}}
            ],
        }
        for day, usage, cost in rows
    ]
    return {"ResultsByTime": results} | ({"NextPageToken": token} if token else {})


def aws_source(bill: Bill, sleep: Callable[[float], None] = lambda _: None) -> Source:
    keys = aws.Keys(identifier="id", secret="secret")
    return aws.Aws(lambda: keys, "tide", api=f"{bill.url}/", sleep=sleep)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as opened:
        yield opened


def rows_from(source: Source, basis: Basis = Basis.ACTUAL) -> list[Row]:
    return [row for page in source.pages(basis, FIRST, LAST) for row in page]


CLOUDS: dict[str, tuple[Callable[[Bill], Source], Callable[[str], list[Answer]]]] = {
    "azure": (
        azure_source,
        lambda url: [
            Answer(azure_page([azure_row()], f"{url}/next?$skiptoken=A")),
            Answer(azure_page([azure_row(20261124, cost=2.25)], f"{url}/next?$skiptoken=B")),
            Answer(azure_page([azure_row(meter="IP address", pool=None, cost=0.1)])),
        ],
    ),
    "google": (
        google_source,
        lambda _: [
            Answer(google_page([], complete=False)),
            Answer(google_page([google_row()], "A")),
            Answer(google_page([google_row("20261124", cost="2.25")], "B")),
            Answer(google_page([google_row(meter="NAT (2)", cost="0.1")])),
        ],
    ),
    "aws": (
        aws_source,
        lambda _: [
            Answer(aws_page([("2026-11-23", "BoxUsage:m6id", "1.5")], "A")),
            Answer(aws_page([("2026-11-24", "BoxUsage:m6id", "2.25")], "B")),
            Answer(aws_page([("2026-11-23", "NatGateway", "0.1")])),
        ],
    ),
}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_all_pages_of_a_bill_are_followed(cloud: str) -> None:
    source_of, answers = CLOUDS[cloud]
    with serving(answers) as bill:
        rows = rows_from(source_of(bill))
    assert [(row.day.day, row.micros) for row in rows] == [(23, 1_500_000), (24, 2_250_000), (23, 100_000)]
    assert rows[0].pool == "jobs-1"
    assert rows[0].meter.startswith("jobs-1: ")
    assert not bill.answers


def test_azure_is_asked_for_the_sites_groups_by_meter_and_pool_day_by_day_each_basis_apart() -> None:
    with serving(lambda _: [Answer(azure_page([])), Answer(status=204)]) as bill:
        source = azure_source(bill)
        assert rows_from(source) == rows_from(source, Basis.AMORTISED) == []
    (_, path, asked, headers), (_, _, amortised, _) = bill.asked
    assert path.startswith(f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CostManagement/query?api-version=")
    assert headers["Authorization"] == "Bearer none"
    assert (asked["type"], amortised["type"]) == ("ActualCost", "AmortizedCost")
    assert asked["timePeriod"] == {"from": "2026-11-23T00:00:00Z", "to": "2026-11-24T23:59:59Z"}
    assert asked["dataset"]["granularity"] == "Daily"
    assert asked["dataset"]["grouping"] == [
        {"type": "Dimension", "name": "Meter"},
        {"type": "TagKey", "name": "atlas-sites-pool"},
    ]
    assert asked["dataset"]["filter"]["dimensions"]["values"] == ["atlas-tide", "atlas-tide-nodes"]


def test_azure_is_asked_for_a_month_at_a_time_since_more_is_cut_off() -> None:
    with serving(lambda _: [Answer(azure_page([])) for _ in range(3)]) as bill:
        list(azure_source(bill).pages(Basis.ACTUAL, date(2026, 9, 1), date(2026, 11, 24)))
    periods = [asked["timePeriod"] for _, _, asked, _ in bill.asked]
    assert [period["from"][:10] for period in periods] == ["2026-09-01", "2026-10-02", "2026-11-02"]
    assert [period["to"][:10] for period in periods] == ["2026-10-01", "2026-11-01", "2026-11-24"]


def test_azure_is_given_the_longest_of_the_times_that_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("azure.core.pipeline.transport.RequestsTransport.sleep", lambda _, pause: slept.append(pause))
    headers = {
        "x-ms-ratelimit-microsoft.costmanagement-qpu-retry-after": "10",
        "x-ms-ratelimit-microsoft.costmanagement-tenant-retry-after": "37",
        "Retry-After": "5",
    }
    with serving(lambda _: [Answer({}, 429, headers), Answer(azure_page([azure_row()]))]) as bill:
        assert len(rows_from(azure_source(bill))) == 1
    assert slept == [37]


def test_azure_is_left_alone_when_it_asks_for_longer_than_a_quarter_of_an_hour() -> None:
    headers = {"x-ms-ratelimit-microsoft.costmanagement-entity-retry-after": "3600", "Retry-After": "1"}
    with serving(lambda _: [Answer({"error": {"code": "429"}}, 429, headers)]) as bill, pytest.raises(Refused) as no:
        rows_from(azure_source(bill))
    assert no.value.reason == "BillUnreachable"
    assert len(bill.asked) == 1


@pytest.mark.parametrize("source_of", [google_source, aws_source])
def test_others_are_given_the_time_that_they_ask_for_too(source_of: Callable[..., Source]) -> None:
    slept: list[float] = []
    page = google_page([google_row()]) if source_of is google_source else aws_page([("2026-11-23", "x", "1")])
    throttle = {"__type": "ThrottlingException"}
    answers = [Answer(throttle, 429, {"Retry-After": "7"}), Answer(throttle, 400), Answer(status=503), Answer(page)]
    if source_of is google_source:
        del answers[1]
    with serving(lambda _: answers) as bill:
        assert len(rows_from(source_of(bill, slept.append))) == 1
    assert slept[0] == 7
    assert all(pause > 0 for pause in slept)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_missing_permission_is_told_with_the_role_that_is_needed(cloud: str) -> None:
    source_of, _ = CLOUDS[cloud]
    no = Answer({"error": {"code": "Denied", "message": "no"}}, 403)
    with serving(lambda _: [no]) as bill, pytest.raises(Refused) as refused:
        rows_from(source_of(bill))
    assert refused.value.reason == "PermissionMissing"
    assert any(role in str(refused.value) for role in ("Cost Management Reader", "BigQuery Job User", "ce:GetCost"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("cloud", "again"),
    [
        ("azure", lambda url: Answer(azure_page([azure_row()], f"{url}/next?$skiptoken=A"))),
        ("google", lambda _: Answer(google_page([google_row()], "A"))),
        ("aws", lambda _: Answer(aws_page([("2026-11-23", "x", "1")], "A"))),
    ],
)
def test_a_bill_whose_pages_repeat_is_refused_whole(cloud: str, again: Callable[[str], Answer], ledger: Ledger) -> None:
    source_of, _ = CLOUDS[cloud]
    with serving(lambda url: [again(url) for _ in range(4)]) as bill, pytest.raises(Refused) as refused:
        ledger.take(
            Reading(
                source=cloud,
                site="tide",
                basis=Basis.ACTUAL,
                first=FIRST,
                last=LAST,
                as_of=1,
                pages=source_of(bill).pages(Basis.ACTUAL, FIRST, LAST),
            )
        )
    assert refused.value.reason in {"RowRepeated", "PageRepeated"}
    assert list(ledger.rows()) == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (azure_page([["x"] * 6]), "DayUnreadable"),
        (azure_page([azure_row(20261332)]), "DayUnreadable"),
        (azure_page([[20261123, "m", "k", "p", "much", "EUR"]]), "AmountUnreadable"),
        ({"properties": {"columns": [{"name": "PreTaxCost", "type": "Number"}], "rows": [[1]]}}, "BillUnreadable"),
        (azure_page([], "https://elsewhere.example.org/steal"), "BillUnreadable"),
    ],
)
def test_what_azure_cannot_mean_is_a_named_error(answer: Any, reason: str) -> None:
    with serving(lambda _: [Answer(answer)]) as bill, pytest.raises(Refused) as refused:
        rows_from(azure_source(bill))
    assert refused.value.reason == reason


def test_a_refund_and_an_unknown_currency_reach_the_ledger_as_what_they_are(ledger: Ledger) -> None:
    def take(rows: list[list[Any]], as_of: int) -> None:
        with serving(lambda _: [Answer(azure_page(rows))]) as bill:
            pages = azure_source(bill).pages(Basis.ACTUAL, FIRST, LAST)
            ledger.take(
                Reading(
                    source="azure", site="tide", basis=Basis.ACTUAL, first=FIRST, last=LAST, as_of=as_of, pages=pages
                )
            )

    take([azure_row(cost=3.0), azure_row(meter="refund", cost=-1.25)], 1)
    assert ledger.sums("flag")["negative", "actual", "EUR"] == -1_250_000
    with pytest.raises(Refused, match="ISO 4217"):
        take([[*azure_row()[:-1], "ZZZ"]], 2)
    take([azure_row(cost=2.5)], 3)
    assert ledger.sums() == {("actual", "EUR"): 2_500_000}


def test_google_asks_for_days_of_utc_of_the_sites_label_and_never_by_text_in_the_query() -> None:
    with serving(lambda _: [Answer(google_page([]))]) as bill:
        assert rows_from(google_source(bill)) == []
    (_, path, asked, headers) = bill.asked[0]
    assert path == "/bigquery/v2/projects/billing/queries"
    assert headers["Authorization"] == "Bearer t"
    assert {each["name"]: each["parameterValue"]["value"] for each in asked["queryParameters"]} == {
        "first": "2026-11-23",
        "last": "2026-11-24",
        "site": "tide",
    }
    assert "tide" not in asked["query"]
    assert "`billing.export.v1`" in asked["query"]


def test_aws_is_asked_for_amortised_costs_apart_and_up_to_the_day_after_the_last() -> None:
    with serving(lambda _: [Answer(aws_page([("2026-11-23", "x", "1")], metric="AmortizedCost"))]) as bill:
        (row,) = rows_from(aws_source(bill), Basis.AMORTISED)
    assert row.currency == "USD"
    _, _, asked, headers = bill.asked[0]
    assert asked["TimePeriod"] == {"Start": "2026-11-23", "End": "2026-11-25"}
    assert asked["Metrics"] == ["AmortizedCost"]
    assert headers["x-amz-target"] == "AWSInsightsIndexService.GetCostAndUsage"


def test_a_request_to_aws_is_signed_as_botocore_signs_it() -> None:
    """The signature was made once by SigV4Auth of botocore 1.44.8 for the same request."""
    keys = aws.Keys(identifier="AKIDEXAMPLE", secret="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token="tok")
    headers = aws.signed(keys, json.dumps({"a": 1}).encode(), aws.API, datetime(2026, 11, 26, 12, tzinfo=UTC))
    assert headers["Authorization"].endswith("9244aa3d5db8704c7a9b921044a0e5c1b2597730d49d8a49588a0fec671b2c5e")
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target" in headers["Authorization"]


def test_an_answer_that_is_no_json_is_one_sentence() -> None:
    caller = Caller("x", headers=lambda _body, _url: {}, permission="", sleep=lambda _: None)
    with serving(lambda _: [Answer([1])]) as bill, pytest.raises(Refused, match="not an object in JSON"):
        caller.call("GET", bill.url)
    with pytest.raises(Refused, match="no answer"):
        caller.call("GET", "http://127.0.0.1:1/")
    caller.close()


@pytest.mark.parametrize("text", [20261124, "20261124", "2026-11-24", "2026-11-24T00:00:00Z"])
def test_a_day_is_read_however_it_is_written(text: object) -> None:
    assert day_from(text, "x") == date(2026, 11, 24)
