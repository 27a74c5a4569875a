"""The page in a real Chromium: desktop and phone, light and dark, nothing from outside, usable by all."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from metering.settings import Settings
from tests.web.conftest import Serve
from tests.web.world import NAMES, fill

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
PATHS = {
    "overview": "/?period=2026-10",
    "customers": "/customers?period=2026-10",
    "customer": "/customer?id=otter-ferries&period=2026-10",
    "hostile": "/customer?id=script&period=2026-10",
    "long": "/customer?id=long&period=2026-10",
    "quoted": "/customer?id=quoted&period=2026-10",
    "operations": "/operations",
    "bill": "/bill?customer=rowan-railways&period=2026-10",
    "missing": "/customer?id=nobody",
}
SCREENS = {"desktop-light": (1200, 900, "light"), "phone-dark": (390, 844, "dark")}
pytestmark = [
    pytest.mark.parts,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: `make test-web` installs one"),
]


@pytest.fixture(scope="module")
def address(books: Callable[[str], Settings], serve: Serve) -> str:
    settings = books("web_browser")
    fill(settings)
    return serve(settings)


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Browser]:
    # The books first: with a browser open, its event loop runs in this thread.
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


class Seen:
    """What a page said and asked for."""

    def __init__(self, page: Page, address: str) -> None:
        self.errors: list[str] = []
        self.outside: list[str] = []
        page.on("console", lambda message: self.errors.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(address) else self.outside.append(r.url))


@pytest.fixture(params=SCREENS)
def screen(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    width, height, scheme = SCREENS[request.param]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    yield context.new_page()
    context.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds; it is put in by the test, past the page's own policy."""
    page.evaluate(AXE)
    found: list[dict[str, Any]] = page.evaluate("async () => (await axe.run()).violations")
    return [f"{v['id']}: {[node['html'][:120] for node in v['nodes']][:3]}" for v in found]


@pytest.mark.parametrize("name", PATHS)
def test_a_page_is_quiet_local_accessible_and_fits(screen: Page, address: str, name: str) -> None:
    seen = Seen(screen, address)
    screen.goto(address + PATHS[name], wait_until="networkidle")
    allowed = ["error: Failed to load resource: the server responded with a status of 404 (Not Found)"]
    assert seen.errors in ([], allowed if name == "missing" else [])
    assert seen.outside == []
    assert screen.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert screen.evaluate("window.hacked") is None
    assert violations(screen) == []


def test_the_two_schemes_look_different(browser: Browser, address: str) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(address)
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert len(colours) == 2


def test_a_search_shows_the_customer_without_a_click(screen: Page, address: str) -> None:
    screen.goto(f"{address}/customers?period=2026-10")
    screen.get_by_label("Name or id").press_sequentially("otter fer")
    screen.get_by_text("1 customer with").wait_for(timeout=30_000)
    screen.get_by_role("link", name="Otter Ferries").click()
    screen.get_by_role("heading", name="Otter Ferries").wait_for(timeout=30_000)


def test_another_period_is_one_choice_away(screen: Page, address: str) -> None:
    screen.goto(f"{address}/?period=2026-09")
    assert screen.get_by_text("Nothing was charged in 2026-09 yet").is_visible()
    screen.get_by_label("Period").select_option("2026-10")
    screen.get_by_role("heading", name="Who").wait_for(timeout=30_000)


def test_the_charts_are_drawn(screen: Page, address: str) -> None:
    screen.goto(address + PATHS["customer"], wait_until="networkidle")
    assert screen.locator(".plot canvas").count() == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_name_shows_as_it_is_and_runs_nothing(browser: Browser, address: str, name: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}/customer?{urlencode({'id': name, 'period': '2026-10'})}")
    assert page.locator("h1").inner_text() == "".join(
        repr(c)[1:-1] if c in "\u202e\u2066\u2069" else c for c in NAMES[name]
    )
    assert page.evaluate("window.hacked") is None
    page.close()


def test_the_bill_prints_on_paper(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(address + PATHS["bill"])
    assert page.pdf(format="A4").startswith(b"%PDF-")
    page.close()
