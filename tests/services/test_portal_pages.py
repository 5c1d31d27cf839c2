"""The pages over real HTTP: what they show, how one filters and sorts, and what they let nobody do."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from hypothesis import given, strategies as st

from services.portal import views, words
from services.portal.pages import Pages
from services.portal.store import Heard
from tests.services.portal import NOW, report, startd, startd_set

pytestmark = pytest.mark.fast

SITES = ("cern", "hall", "quiet")
EVIL = "<script>alert(1)</script>\"'&"


class Browser:
    """Asks for pages, as a browser behind a forwarded port does."""

    def __init__(self, server: TestServer, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session
        self.headers: dict[str, str] = {}

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        return await self.ask("GET", path, **headers)

    async def ask(self, verb: str, path: str, **headers: str) -> tuple[int, str]:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        async with self._session.request(verb, self._server.make_url(path), headers=sent) as response:
            self.headers = dict(response.headers)
            return response.status, await response.text()


def browsing(known: dict[str, Heard], told: Callable[[Browser], Awaitable[Any]], now: float = NOW) -> Any:
    async def run() -> Any:
        server = TestServer(Pages(SITES, known, clock=lambda: now).application())
        async with server, aiohttp.ClientSession() as session:
            return await told(Browser(server, session))

    return asyncio.run(run())


def page(path: str, known: dict[str, Heard], now: float = NOW) -> str:
    async def told(browser: Browser) -> str:
        status, text = await browser.get(path)
        assert status == 200
        return text

    return str(browsing(known, told, now))


def heard(site: str = "hall", at: float = NOW - 12, **more: Any) -> dict[str, Heard]:
    return {site: Heard(at=at, report=report(site, **more))}


class Text(HTMLParser):
    """What a person reads, and which tags are open where."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.words.append("\n" if tag in {"tr", "li", "p", "div"} else " ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text_of(content: str) -> str:
    parser = Text()
    parser.feed(content)
    return re.sub(r"[^\S\n]+", " ", "".join(parser.words))


def row_of(content: str, name: str) -> str:
    rows: list[str] = re.findall(r"<tr.*?</tr>", content, re.DOTALL)
    (found,) = [row for row in rows if f'href="/sites/{name}"' in row]
    return " ".join(text_of(found).split())


def names(content: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/sites/([a-z-]+)"', content)


def test_the_overview_says_what_each_site_does_and_costs() -> None:
    row = row_of(page("/", heard()), "hall")
    for said in (
        "HALL-PROD", "steady", "3 of 8", "1.50 EUR of 5.00", "20.00 EUR of 100.00", "3 d", "85 %", "12 s ago",
    ):  # fmt: skip
        assert said in row


def test_a_silent_site_is_shown_as_last_seen_and_never_as_nought() -> None:
    known = heard(at=NOW - 3600)
    row = row_of(page("/", known), "hall")
    assert "silent last seen 2026-09-21 13:13:20 UTC" in row
    assert "3 of 8" in row
    assert "it is silent: what is shown is what it said last" in text_of(page("/sites/hall", known))


def test_a_site_that_was_never_heard_is_there_and_nothing_is_known_of_it() -> None:
    row = row_of(page("/", {}), "quiet")
    assert "never heard" in row
    assert "unknown" in row
    assert not re.search(r"\b0\b", row)
    assert "never heard" in text_of(page("/sites/quiet", {}))


def test_what_a_site_could_not_see_is_unknown_and_not_nought() -> None:
    blind = heard(
        sets=None, startds=None, events=None, squids=None, proxy=None, cost=None, problems=["the API is away"]
    )
    row = row_of(page("/", blind), "hall")
    assert row.count("unknown") == 7
    assert not re.search(r"\b0\b", row)
    text = text_of(page("/sites/hall", blind))
    for said in ("could not see its sets", "could not see its squids", "could not see its events", "the API is away"):
        assert said in text


def test_silent_sites_are_in_no_sum() -> None:
    known = heard() | heard("cern", at=NOW - 4000)
    _, totals = views.sites(SITES, known, {}, NOW)
    assert (totals.sites, totals.silent, totals.running, totals.spent) == (3, 2, 3, {"EUR": 1.5})


def test_currencies_are_not_added_up() -> None:
    other = heard("cern", cost={"currency": "CHF", "today": 2, "month": 3})
    _, totals = views.sites(SITES, heard() | other, {}, NOW)
    assert totals.spent == {"CHF": 2, "EUR": 1.5}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"proxy": {"ends": NOW + 79 * 3600, "warning": 80 * 3600, "critical": 72 * 3600}}, "watch the proxy is old"),
        (
            {"proxy": {"ends": NOW + 71 * 3600, "warning": 80 * 3600, "critical": 72 * 3600}},
            "act the proxy is about to",
        ),
        ({"cost": {"currency": "EUR", "today": 5, "month": 5, "perDay": 5, "over": True}}, "act the budget is spent"),
        ({"cost": {"currency": "EUR", "today": 4.6, "month": 5, "perDay": 5}}, "watch today's budget is nearly spent"),
        ({"squids": [{"name": "squid-0"}]}, "watch squid-0 does not answer"),
        ({"sets": [startd_set(state="Blind", message="no API")]}, "act startds is blind: no API"),
        (
            {"sets": [startd_set(state="BackingOff", message="3 found no work")]},
            "watch startds is backing off: 3 found",
        ),
    ],
)
def test_what_is_about_to_break_is_a_concern(more: dict[str, Any], said: str) -> None:
    known = heard(**more)
    assert said in " ".join(text_of(page("/sites/hall", known)).split())
    assert "1 concern" in row_of(page("/", known), "hall")


def test_a_site_that_is_well_has_no_concerns() -> None:
    assert views.site_row("hall", heard()["hall"], NOW).concerns == ()
    assert names(page("/?show=concerns", heard())) == ["cern", "quiet"]


def test_sites_are_filtered_and_sorted_by_the_address() -> None:
    known = heard() | heard("cern", sets=[startd_set(running=9)], at=NOW - 999)
    assert names(page("/", known)) == ["cern", "hall", "quiet"]
    assert names(page("/?q=HAL", known)) == ["hall"]
    assert names(page("/?q=cern-prod", known)) == ["cern"]
    assert names(page("/?show=silent", known)) == ["cern", "quiet"]
    assert names(page("/?sort=running", known)) == ["hall", "cern", "quiet"]
    assert names(page("/?sort=-running", known)) == ["cern", "hall", "quiet"]
    assert names(page("/?sort=nonsense&page=-1&show=%00", known)) == ["cern", "hall", "quiet"]
    assert 'aria-sort="descending"' in page("/?sort=-running", known)
    assert "No site is like that" in page("/?q=nowhere", known)


@given(st.lists(st.one_of(st.none(), st.integers())), st.sampled_from(["n", "-n"]))
def test_what_nobody_knows_comes_last_in_either_direction(values: list[int | None], sort: str) -> None:
    rows = list(enumerate(values))
    found = views.arranged(rows, {"n": lambda row: row[1], "at": lambda row: row[0]}, sort, "at")
    known = [value for value in values if value is not None]
    assert [row[1] for row in found] == sorted(known, reverse=sort == "-n") + [None] * (len(values) - len(known))


def test_a_set_says_why_so_many_and_not_one_more_the_ruling_limit_first() -> None:
    content = page("/sites/hall/sets/startds", heard())
    text = text_of(content)
    assert "steady work is found" in " ".join(text.split())
    order = [text.index(said) for said in ("10 less 8", "4 may be unproven", "1.00 of 5.00 EUR are spent today")]
    assert order == sorted(order)
    for said in ("does not rule", "old", "no work", "nobody claimed it", "10 min", "1 waiting, 1 unproven, 2 proven"):
        assert said in re.sub(r"\s+", " ", text).replace(" , ", ", ")


def test_startds_are_filtered_sorted_and_paged_by_the_address() -> None:
    many = heard(startds=[startd(number, "proven" if number % 2 else "waiting") for number in range(1, 451)])

    def shown(query: str) -> list[str]:
        return re.findall(
            r'<th scope="row">(startds-[0-9]+)</th><td data-label="Is">', page(f"/sites/hall/sets/startds{query}", many)
        )

    assert shown("")[:3] == ["startds-1", "startds-2", "startds-3"]
    assert (len(shown("")), len(shown("?page=3")), len(shown("?page=99"))) == (200, 50, 50)
    assert shown("?doing=waiting&page=2") == [f"startds-{number}" for number in range(402, 451, 2)]
    assert shown("?q=startds-44&sort=-name")[:2] == ["startds-449", "startds-448"]
    assert shown("?sort=-age")[0] == "startds-450"
    assert "page 2 of 3" in page("/sites/hall/sets/startds?page=2", many)
    assert "?sort=-age&amp;page=3#startds" in page("/sites/hall/sets/startds?sort=-age&page=2", many)


def test_whatever_a_site_says_is_text_and_never_markup() -> None:
    evil = startd_set(message=EVIL)
    evil["status"]["bounds"][0]["because"] = EVIL
    evil["status"]["recent"][0] |= {"reason": EVIL, "node": EVIL}
    evil["status"]["blamedNodes"] = [{"name": EVIL, "reason": EVIL}]
    events = [{"at": NOW, "warning": True, "about": EVIL, "reason": EVIL, "message": EVIL}]
    known = heard(sets=[evil], events=events, problems=[EVIL], atlasSite=EVIL, startds=[{**startd(1), "node": EVIL}])
    for path in ("/", "/sites/hall", "/sites/hall/sets/startds", "/?q=%3Cscript%3Ealert(1)%3C/script%3E%22"):
        content = page(path, known)
        assert "<script>alert" not in content
        parser = Text()
        parser.feed(content)
        assert parser.tags.count("script") == 1
        assert "<script>alert(1)</script>" in "".join(parser.words) or "q=" in path


def test_the_live_part_is_what_the_whole_page_holds() -> None:
    async def told(browser: Browser) -> None:
        for path in ("/", "/sites/hall", "/sites/hall/sets/startds?doing=proven"):
            _, whole = await browser.get(path)
            status, part = await browser.get(path, X_Live="1")
            assert status == 200
            assert "<html" not in part
            assert "<form" not in part
            assert part.strip() in whole

    browsing(heard(), told)


def test_every_answer_bears_strict_headers() -> None:
    async def told(browser: Browser) -> None:
        for path in ("/", "/sites/hall", "/nothing", "/static/live.js", "/static/style.css", "/sites/nowhere"):
            await browser.get(path)
            policy = browser.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert browser.headers["X-Content-Type-Options"] == "nosniff"
            assert browser.headers["X-Frame-Options"] == "DENY"
            assert browser.headers["Referrer-Policy"] == "no-referrer"

    browsing(heard(), told)


def test_nothing_in_a_page_needs_what_the_policy_forbids() -> None:
    for path in ("/", "/sites/hall", "/sites/hall/sets/startds"):
        content = page(path, heard())
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"/static/)|javascript:|https?://", content)


def test_pages_are_only_for_reading() -> None:
    async def told(browser: Browser) -> None:
        for verb in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await browser.ask(verb, "/"))[0] == 405
            assert (await browser.ask(verb, "/sites/hall"))[0] == 405
        assert (await browser.ask("HEAD", "/"))[0] == 200

    browsing(heard(), told)


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/sites/nowhere", "/sites/hall/sets/nothing", "/sites/quiet/sets/startds", "/static/../pages.py",
     "/static/%2e%2e/pages.py", "/sites/%3Cb%3E"],
)  # fmt: skip
def test_what_is_not_there_is_a_page_that_says_so(path: str) -> None:
    async def told(browser: Browser) -> None:
        status, content = await browser.get(path)
        assert status == 404
        assert "<h1>Not Found</h1>" in content
        assert "import" not in content
        assert "<b>" not in content

    browsing(heard(), told)


def test_a_page_elsewhere_that_had_its_name_point_here_learns_nothing() -> None:
    async def told(browser: Browser) -> None:
        for host in ("evil.example", "evil.example:8090", "127.0.0.1.evil.example"):
            status, content = await browser.get("/", Host=host)
            assert status == 421
            assert "hall" not in content
        for host in ("localhost:8090", "127.0.0.1:1234", "[::1]:8090", "localhost"):
            assert (await browser.get("/", Host=host))[0] == 200

    browsing(heard(), told)


def test_words() -> None:
    assert [words.duration(each) for each in (None, -5, 0, 119, 120, 7200, 172_800)] == [
        "unknown", "0 s", "0 s", "119 s", "2 min", "2 h", "2 d",
    ]  # fmt: skip
    assert words.money(1234.5, "EUR") == "1\u202f234.50 EUR"
    assert words.spaced("BackingOff") == "backing off"
    assert (words.percent(0.855), words.percent(None), words.number(None)) == ("86 %", "unknown", "unknown")


def test_the_script_and_the_style_are_whole() -> None:
    static = Path(views.__file__).parent / "static"
    script, style = (static / "live.js").read_text(), (static / "style.css").read_text()
    assert script.count("{") == script.count("}")
    assert style.count("{") == style.count("}")
