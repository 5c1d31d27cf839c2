"""The portal's pages in a real Chromium: for eyes, for keyboards, for phones, and as they change."""

import asyncio
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from aiohttp.test_utils import TestServer
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from local import packages
from local.paths import cache_dir
from local.progress import Progress
from services.portal.pages import Pages
from services.portal.store import Heard
from tests.services.portal import NOW, report, startd, startd_set

pytestmark = pytest.mark.engine

CHROMIUM = "/usr/bin/chromium"
PATHS = ("/", "/sites/hall", "/sites/hall/sets/startds", "/sites/lyon", "/nothing")
DESK, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@dataclass
class Hub:
    """Pages that are served in a thread, and what sites said last."""

    known: dict[str, Heard] = field(default_factory=dict)
    url: str = ""
    now: float = NOW

    def hear(self, site: str, at: float = NOW - 12, **more: object) -> None:
        self.known[site] = Heard(at=at, report=report(site, **more))


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    late = {"currency": "EUR", "today": 4.9, "month": 120, "perDay": 5, "perMonth": 100, "over": True}
    many = [startd(number, ("proven", "unproven", "waiting")[number % 3]) for number in range(1, 31)]
    made.hear("cern", at=NOW - 4000)
    made.hear("hall", sets=[startd_set(state="BackingOff", message=f"3 found no work {EVIL}")], startds=many)
    made.hear("lyon", cost=late, squids=[{"name": "squid-0"}], startds=None, problems=["the startds cannot be seen"])
    pages = Pages(["cern", "hall", "lyon", "never"], made.known, clock=lambda: made.now)
    loop, server = asyncio.new_event_loop(), TestServer(pages.application())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start_server(), loop).result(10)
    made.url = f"http://127.0.0.1:{server.port}"
    yield made
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    packages.ensure(
        {CHROMIUM: "chromium"},
        purpose="looking at the portal",
        log=cache_dir() / "chromium.log",
        progress=Progress(total=0),
    )
    with sync_playwright() as driver:
        # Root has no sandbox there; the pages are ours.
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport=DESK)
    made = context.new_page()
    made.set_default_timeout(10_000)
    complaints: list[str] = []
    made.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    yield made
    context.close()
    # Such as of a script or a style that the page's own policy forbids.
    assert [each for each in complaints if "Failed to load resource" not in each] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(scheme: str, hub: Hub, page: Page) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for size, paths in ((DESK, PATHS), (PHONE, PATHS[:3])):
        page.set_viewport_size(size)
        for path in paths:
            page.goto(hub.url + path)
            found = Axe().run(page).response["violations"]
            serious = [
                f"{path} {size['width']}: {each['id']}: {each['nodes'][0]['html']}"
                for each in found
                if each["impact"] in {"serious", "critical"}
            ]
            assert serious == []


def test_on_a_phone_nothing_is_wider_than_the_screen_and_nothing_is_cut_off(hub: Hub, page: Page) -> None:
    page.set_viewport_size(PHONE)
    for path in PATHS:
        page.goto(hub.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        cut = page.evaluate(
            "[...document.querySelectorAll('td, tbody th, dd, li')]"
            ".filter((one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0).map((one) => one.outerHTML)"
        )
        assert cut == []
    page.goto(f"{hub.url}/sites/hall")
    assert page.locator("td[data-label='State']").first.is_visible()


def test_by_keyboard_alone_one_comes_from_all_sites_to_one_startd(hub: Hub, page: Page) -> None:
    page.goto(hub.url)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("hal")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"\?q=hal"))
    expect(page.locator("tbody tr")).to_have_count(1)

    def follow(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.locator(":focus").inner_text() == name:
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", "where one is must be seen"
                page.keyboard.press("Enter")
                return
        pytest.fail(f"{name} is not to be reached by Tab")

    follow("hall")
    expect(page).to_have_url(f"{hub.url}/sites/hall")
    follow("startds")
    expect(page).to_have_url(f"{hub.url}/sites/hall/sets/startds")
    follow("10 waiting")
    expect(page).to_have_url(re.compile(r"doing=waiting"))
    expect(page.locator("#startds caption")).to_have_text("10 of 30 startds")


def test_what_changes_is_shown_without_a_reload_and_focus_and_filter_stay(hub: Hub, page: Page) -> None:
    page.clock.install()
    page.goto(f"{hub.url}/?q=hall&sort=-running")
    page.evaluate("window.mark = 'same page'")
    row = page.locator("tbody tr")
    expect(row.locator("[data-label=Running] .figure")).to_have_text("3")
    row.get_by_role("link", name="hall", exact=True).focus()
    hub.hear("hall", sets=[startd_set(running=7)])
    page.clock.fast_forward(11_000)
    expect(row.locator("[data-label=Running] .figure")).to_have_text("7")
    expect(row.locator(".badge")).to_have_text("steady")
    expect(page.locator(":focus")).to_have_text("hall")
    assert page.evaluate("window.mark") == "same page"
    assert page.locator("[name=q]").input_value() == "hall"


def test_a_site_that_falls_silent_is_shown_so_on_an_open_page(hub: Hub, page: Page) -> None:
    page.clock.install()
    page.goto(f"{hub.url}/sites/hall")
    expect(page.locator(".seen")).to_have_text(re.compile("12 s ago"))
    hub.now = NOW + 600
    page.clock.fast_forward(11_000)
    expect(page.locator(".seen")).to_have_text(re.compile(r"silent\s+last seen 2026-09-21 14:13:08 UTC"))
    expect(page.locator("dl.figures dd").first).to_have_text(re.compile(r"^3"))


def test_a_hub_that_does_not_answer_is_told_and_the_page_stays(hub: Hub, page: Page) -> None:
    page.clock.install()
    page.goto(hub.url)
    page.route("**/*", lambda route: route.abort())
    page.clock.fast_forward(11_000)
    expect(page.get_by_role("status")).to_have_text(re.compile("^No answer: this is as of "))
    expect(page.locator("tbody tr")).to_have_count(4)
    page.unroute("**/*")
    page.clock.fast_forward(11_000)
    expect(page.get_by_role("status")).to_have_text("")


def test_what_a_site_says_is_never_run(hub: Hub, page: Page) -> None:
    for path in PATHS:
        page.goto(hub.url + path)
        assert page.title() != "owned"
    page.goto(f"{hub.url}/sites/hall")
    expect(page.locator("#concerns")).to_contain_text("<script>")
    assert page.locator("main img").count() == 0


def test_without_scripts_the_page_says_the_same(hub: Hub, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(hub.url)
    expect(plain.locator("tbody tr")).to_have_count(4)
    expect(plain.locator("tbody")).to_contain_text("backing off")
    context.close()
