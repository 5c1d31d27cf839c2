"""The monthly page: what it sums up, what it says of a site that does not answer, and the command line."""

import json
import os
import stat
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from report import __main__ as command
from report.ask import AskError, books, sites
from report.books import Books
from report.page import page
from services.accounting.ledger import Ledger
from services.accounting.main import daily
from services.accounting.rows import Basis, Reading, Row

pytestmark = pytest.mark.fast

MONTH = date(2026, 11, 1)


def cost(day: str, pool: str, basis: str, micros: int) -> dict[str, Any]:
    return {"day": day, "pool": pool, "set": "", "basis": basis, "currency": "EUR", "micros": micros}


TOLD: dict[str, Any] = {
    "site": "tide",
    "costs": [
        cost("2026-11-02", "jobs", "actual", 12_500_000),
        cost("2026-11-03", "jobs", "actual", -500_000),
        cost("2026-11-03", "", "estimated", 1_000_000),
    ],
    "usage": [
        {
            "day": "2026-11-02", "set": "startds", "vo": "atlas", "held": {"Worked": 7200, "SiteFault": 3600},
            "ended": {"Worked": 2, "SiteFault": 1}, "busy": 7000, "lost": 100, "cpu": 5400, "hs23Hours": 37.5,
        },
    ],
}  # fmt: skip
SITE = {"namespace": "tide", "metrics": {"accounting": "http://x"}, "cluster": {"kubeconfig": "apiVersion: v1"}}


def program(place: Path, text: str) -> Path:
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return place


class Tags(HTMLParser):
    """All that a page is made of; it must be closed in the order in which it was opened."""

    EMPTY = frozenset({"meta", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not any((value or "").startswith(("http:", "//")) for name, value in attrs if name in {"src", "href"})
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_month_is_summed_up_and_drawn_by_day() -> None:
    one = Books.model_validate(TOLD)
    assert (one.wall, one.startds, one.hs23_hours) == (10_800, 3, 37.5)
    assert one.efficiency == pytest.approx(6900 / 10_800)
    assert one.cpu_efficiency == pytest.approx(0.5)
    assert one.wasted == {"SiteFault": 1.0}
    assert one.totals == {("actual", "EUR"): 12.0, ("estimated", "EUR"): 1.0}
    assert one.charged("estimated", "EUR") == {"no pool": {date(2026, 11, 3): 1_000_000}}
    text = page("world", MONTH, {"tide": one}, {})
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.seen.count("svg") == 3
    assert "script" not in tags.seen
    for said in (
        "Stack world, November 2026",
        "12.00 EUR actual",
        "1.00 EUR estimated",
        "SiteFault 1.0",
        "50 %",
        "37.5",
    ):
        assert said in text


def test_the_page_reads_what_the_accounting_tells(tmp_path: Path) -> None:
    first, last = MONTH, date(2026, 11, 30)
    with Ledger(tmp_path / "ledger.db") as ledger:
        ledger.write(
            "INSERT INTO counters VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                ("tide", "uid", "2026-11-02", counter, "startds", "atlas", value, 1)
                for counter, value in (("held/Worked", 7200), ("ended/Worked", 2), ("busy", 3600), ("cpu", 3000))
            ],
        )
        row = Row(day=first, meter="cpu", currency="EUR", micros=1_500_000, pool="jobs")
        ledger.take(
            Reading(source="x", site="tide", basis=Basis.ACTUAL, first=first, last=last, as_of=1, pages=[[row]])
        )
        told = json.dumps(daily(ledger, "tide", "12.5", first, last))
    one = Books.model_validate(json.loads(told))
    assert (one.site, one.startds, one.wall, one.hs23_hours) == ("tide", 2, 7200, 25.0)
    assert one.cpu_efficiency == pytest.approx(3000 / 7200)
    assert one.totals == {("actual", "EUR"): 1.5}
    assert one.charged("actual", "EUR") == {"jobs": {first: 1_500_000}}


def test_a_site_without_books_is_named_and_is_not_nought() -> None:
    text = page("world", MONTH, {}, {"hall": "it keeps <no> books"})
    assert "it keeps &lt;no&gt; books" in text
    assert "0.0" not in text


def test_a_site_on_which_nothing_ran_says_so() -> None:
    text = page("world", MONTH, {"hall": Books(site="hall", costs=[], usage=[])}, {})
    assert "Nothing ran, and nothing was charged." in text


def test_the_books_are_asked_of_the_sites_own_accounting(tmp_path: Path) -> None:
    said = tmp_path / "said"
    kubectl = program(tmp_path / "kubectl", f"echo \"$@\" > {said}\ncat <<'X'\n{json.dumps(TOLD)}\nX")
    assert books("tide", SITE, MONTH, (kubectl,)).site == "tide"
    assert "--namespace=tide" in said.read_text()
    assert said.read_text().endswith("exec deploy/accounting -- python3 -m services.accounting daily --month=2026-11\n")


@pytest.mark.parametrize(
    ("site", "text", "sentence"),
    [
        ({**SITE, "metrics": {"accounting": None}}, "", "it keeps no books"),
        (SITE, "echo 'no route to host' >&2; exit 1", "cannot be read: no route to host"),
        (SITE, "exit 3", "cannot be read: exit code 3"),
        (SITE, "echo nonsense", "what came is no JSON object"),
        (SITE, 'echo \'{"site": "tide", "costs": [{}], "usage": []}\'', "of another release (costs.0.day)"),
    ],
)
def test_whatever_is_wrong_with_a_site_is_one_sentence(
    tmp_path: Path, site: dict[str, Any], text: str, sentence: str
) -> None:
    kubectl = program(tmp_path / "kubectl", text)
    with pytest.raises(AskError) as caught:
        books("tide", site, MONTH, (kubectl,))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stack_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AskError, match="the outputs of stack world cannot be read: error: no stack named 'world'"):
        sites("world", (program(tmp_path / "pulumi", "echo \"error: no stack named 'world'\" >&2; exit 255"),))
    with pytest.raises(AskError, match="make up STACK=world"):
        sites("world", (program(tmp_path / "pulumi", "echo '{}'"),))
    with pytest.raises(AskError, match="is not on PATH"):
        sites("world", (tmp_path / "nothing",))


def test_the_page_is_written_though_one_site_is_silent_and_the_exit_code_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.dumps({"sites": {"tide": SITE, "hall": {**SITE, "namespace": "hall"}}})
    program(tmp_path / "pulumi", f"cat <<'X'\n{told}\nX")
    program(
        tmp_path / "kubectl",
        "case \"$*\" in *--namespace=hall*) echo 'no route to host' >&2; exit 1;; esac\n"
        f"cat <<'X'\n{json.dumps(TOLD)}\nX",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    place = tmp_path / "page.html"
    assert command.main(["world", "--month", "2026-11", "--output", str(place)]) == 1
    out, err = capsys.readouterr()
    assert out.strip() == str(place)
    assert err.strip() == "error: site hall: the accounting of site hall cannot be read: no route to host"
    assert "no route to host" in place.read_text()
    assert "12.00 EUR actual" in place.read_text()


def test_a_month_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["world", "--month", "2026-13"])
    assert "'2026-13' is no month" in capsys.readouterr().err
