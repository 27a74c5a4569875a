"""The previews: numbers as the books have them, names as text, drawings that leave gaps, pages that fit."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from dashboards.drawing import drawn
from dashboards.generate import GENERATED, HERE
from dashboards.preview import FOLDER, SPAN, Sources, page, selected
from dashboards.prometheus_query import Prometheus
from dashboards.run import Result, load
from tests.dashboards.world import EMOJI, QUOTE, YEARS

BOARDS = {board["uid"]: board for board in load(HERE / GENERATED)}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENS = [(1440, "light"), (1440, "dark"), (390, "dark")]
MONTH = "202.930525"  # what the demo's November comes to, as the README prints it


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", html))


# -- what is committed ----------------------------------------------------------------------------


def committed(uid: str) -> str:
    return (FOLDER / f"{uid}.html").read_text("utf-8")


@pytest.mark.parametrize("uid", BOARDS)
def test_every_panel_of_every_board_is_in_its_preview(uid: str) -> None:
    told = committed(uid)
    titles = [unescape(title) for title in re.findall(r"<h2>(.*?)</h2>", told)]
    assert titles == [panel["title"].replace("$currency", "USD") for panel in BOARDS[uid]["panels"]]
    assert len(list(FOLDER.glob("*.html"))) == len(BOARDS)


@pytest.mark.parametrize("uid", BOARDS)
def test_most_panels_of_a_preview_have_numbers(uid: str) -> None:
    told = committed(uid)
    empty = told.count(">no data<") + told.count(">from Prometheus")
    assert empty <= sum("targets" in panel for panel in BOARDS[uid]["panels"]) / 2


@pytest.mark.parametrize("uid", ["metering-home", "metering-revenue", "metering-finance", "metering-close"])
def test_a_preview_shows_the_month_of_the_demo_to_the_last_digit(uid: str) -> None:
    assert MONTH in text_of(committed(uid))


def test_the_preview_of_quotas_tells_the_scene_of_the_demo() -> None:
    told = text_of(committed("metering-quotas"))
    for word in ("juniper-foods", "blocked", "unblocked", "80 %", "15000", "a trial that convinces"):
        assert word in told


# -- how they are made ----------------------------------------------------------------------------


@pytest.mark.parts
@pytest.mark.parametrize("uid", BOARDS)
def test_a_page_is_made_of_any_books(books: Any, empty: Any, uid: str) -> None:
    for client in (books, empty):
        assert "</html>" in page(Sources(client), BOARDS[uid], SPAN, selected(BOARDS[uid]))


@pytest.mark.parts
def test_a_name_is_text_on_a_page(books: Any) -> None:
    board = BOARDS["metering-revenue"]
    chosen = selected(board) | {"currency": "EUR", "customer": [QUOTE, EMOJI]}
    made = page(Sources(books), board, YEARS, chosen)
    assert "<b>" not in made
    assert f"{QUOTE} <b>&" in text_of(made)
    assert EMOJI in made


def result(values: dict[datetime, int]) -> Result:
    return Result(["time", "n"], ["DateTime", "UInt64"], list(values.items()))


class Answers(BaseHTTPRequestHandler):
    """A Prometheus that knows one figure and one series."""

    def do_GET(self) -> None:
        kind = "matrix" if "query_range" in self.path else "vector"
        one = {
            "metric": {"topic": "usage.<b>"},
            "value": [0, "1500"],
            "values": [[0, "1"], [60, "NaN"], [120, "3"]],
        }
        body = json.dumps({"data": {"resultType": kind, "result": [one]}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads a log of it."""


@pytest.fixture
def metrics() -> Iterator[Prometheus]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    serving = Thread(target=server.serve_forever, daemon=True)
    serving.start()
    yield Prometheus(f"http://127.0.0.1:{server.server_port}/", 300)
    server.shutdown()
    server.server_close()
    serving.join(10)


def test_panels_of_prometheus_have_its_figures_and_series(metrics: Prometheus) -> None:
    made = page(Sources(None, metrics), BOARDS["metering-pipeline"], SPAN, {}, "minutes of a test")
    assert "<strong>1.5k</strong>" in made
    assert "<strong>1.5k s</strong>" in made
    assert "usage.&lt;b&gt;" in made
    assert "NaN" not in made
    assert "minutes of a test" in text_of(made)


START = datetime(2025, 1, 1, tzinfo=UTC)


def test_hours_without_a_value_leave_a_gap() -> None:
    hours = {START + timedelta(hours=n): 1 for n in (0, 1, 2, 9)}
    places = [
        Decimal(x) for x in re.findall(r'<rect x="([\d.]+)"', drawn(result(hours), (1064, 200), is_bars=True))
    ]
    assert [round((x - 64) / 100) for x in places] == [0, 1, 2, 9]


@pytest.mark.parametrize(
    ("peak", "lines"),
    [(6, "0 1.5 3 4.5 6"), (75, "0 20 40 60 80"), (203, "0 60 120 180 240"), (0, "0 1 2 3 4")],
)
def test_the_lines_of_a_drawing_stand_at_round_numbers(peak: int, lines: str) -> None:
    made = drawn(result({START: peak}), (1064, 200), is_bars=True)
    found = re.findall(r'text-anchor="end">([^<]*)<', made)
    assert " ".join(found) == lines


# -- as a browser shows them ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(books: Any) -> Iterator[Browser]:
    # The books first: with a browser open, its event loop runs in this thread.
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


OVERFLOWING = """[...document.querySelectorAll('h2, strong, td.r, th')]
    .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent)"""


@pytest.mark.parts
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: `make test-web` installs one")
@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_previews_fit_and_ask_for_nothing(browser: Browser, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown, said, asked = context.new_page(), list[str](), list[str]()
    shown.on("console", lambda message: said.append(message.text))
    shown.on("request", lambda request: asked.append(request.url))
    for uid in BOARDS:
        shown.goto((FOLDER / f"{uid}.html").as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth"), uid
        assert shown.evaluate(OVERFLOWING) == [], uid
    context.close()
    assert said == []
    assert asked == [(FOLDER / f"{uid}.html").as_uri() for uid in BOARDS]
