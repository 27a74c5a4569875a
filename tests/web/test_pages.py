"""The page over HTTP: what it shows, what it refuses, and what it says when the books are away."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from metering.settings import Settings
from metering.sinks.client import connect
from metering.web.app import STATIC, is_loopback
from tests.web.conftest import Serve
from tests.web.world import NAMES, fill

PAGES = ("/", "/customers", "/operations", "/arrived")
ABSENT = "127.0.0.1:1"


def get(address: str, path: str, **headers: str) -> tuple[int, str, Any]:
    request = urllib.request.Request(address + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


@pytest.fixture(scope="module")
def page(books: Callable[[str], Settings], serve: Serve) -> str:
    settings = books("web_pages")
    fill(settings)
    return serve(settings)


def customer(name: str, **more: str) -> str:
    return "/customer?" + urlencode({"id": name, **more})


@pytest.mark.parts
def test_the_overview_says_what_came_what_it_costs_and_who(page: str) -> None:
    status, text, _ = get(page, "/?period=2026-10")
    assert status == 200
    for said in ("1,234,567", "30,000", "USD, 8 customers", "EUR, 7 customers", "Quince Orchards"):
        assert said in text
    assert '26,224.34<span class="micro">3146</span>' in text


@pytest.mark.parts
def test_currencies_are_not_added_up(page: str) -> None:
    _, text, _ = get(page, "/?period=2026-10")
    assert text.count('class="figure big"') == 2


@pytest.mark.parts
def test_a_customer_has_usage_bill_and_explanation(page: str) -> None:
    _, text, _ = get(page, customer("otter-ferries"))
    for said in ("Why this amount", "prorated, 14 of 31 days", "card starter", "Usage by day", "form=pdf"):
        assert said in text


@pytest.mark.parts
def test_operations_show_letters_periods_and_what_cannot_be_asked(page: str) -> None:
    _, text, _ = get(page, "/operations")
    for said in (
        "unknown_type",
        "2026-10",
        "1 hours of usage have no price",
        "is `metering watch` running?",
        "nobody",
    ):
        assert said in text


@pytest.mark.parts
def test_a_month_without_charges_is_not_in_the_list(page: str) -> None:
    _, text, _ = get(page, "/operations")
    assert "2026-10" in text
    assert "2026-12" not in text


@pytest.mark.parts
@pytest.mark.parametrize("name", NAMES)
def test_a_name_from_outside_is_text_on_every_page(page: str, name: str) -> None:
    bill = "/bill?" + urlencode({"customer": name, "period": "2026-10"})
    for path in ("/", "/customers", customer(name, period="2026-10"), bill):
        status, text, _ = get(page, path)
        assert status == 200, text
        assert "<script>window" not in text
        assert "onerror='" not in text
        assert "<b>card" not in text
        assert "\u202e" not in text


@pytest.mark.parts
@pytest.mark.parametrize("name", NAMES)
def test_the_link_in_the_list_leads_to_the_customer(page: str, name: str) -> None:
    _, text, _ = get(page, "/customers?" + urlencode({"q": name, "period": "2026-10"}))
    link = f"/customer?{urlencode({'id': name, 'period': '2026-10'})}".replace("&", "&amp;")
    assert link in text


@pytest.mark.parts
@pytest.mark.parametrize("path", [*PAGES, "/nothing", customer("otter-ferries"), "/static/app.js"])
def test_every_answer_has_the_policy(page: str, path: str) -> None:
    _, _, headers = get(page, path)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parts
def test_the_bill_allows_its_own_style_and_no_other(page: str) -> None:
    _, _, headers = get(page, "/bill?customer=otter-ferries&period=2026-10")
    assert "style-src 'sha256-" in headers["Content-Security-Policy"]


@pytest.mark.parts
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/customer?id=nobody", 404),
        ("/customer", 404),
        ("/?period=2026-13", 404),
        ("/?period=%27%20OR%201", 404),
        ("/bill?customer=otter-ferries&period=2020-01", 404),
        ("/bill?customer=otter-ferries&period=2026-10&form=exe", 404),
        ("/static/../app.py", 404),
        ("/static/%2e%2e/app.py", 404),
        ("/customers?page=0", 200),
        ("/customers?page=-1", 200),
        ("/customers?page=99999999", 200),
        ("/customers?page=x&q=" + "%27" * 300, 200),
    ],
)
def test_odd_requests_get_a_readable_answer(page: str, path: str, status: int) -> None:
    found, text, _ = get(page, path)
    assert found == status
    assert "Traceback" not in text
    assert "<h1>" in text


@pytest.mark.parts
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(page: str, method: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(page).netloc, timeout=60)
    connection.request(method, "/customer?id=otter-ferries")
    assert connection.getresponse().status == 405


@pytest.mark.parts
def test_another_name_for_this_machine_is_not_served(page: str) -> None:
    status, text, _ = get(page, "/", Host="attacker.example:80")
    assert status == 421
    assert "Quince" not in text


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("a.b", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parts
@pytest.mark.parametrize("path", PAGES)
def test_an_empty_database_is_no_error(books: Callable[[str], Settings], serve: Serve, path: str) -> None:
    status, text, _ = get(serve(books("web_empty")), path)
    assert status == 200, text


@pytest.mark.parts
@pytest.mark.parametrize("path", PAGES)
def test_a_database_that_is_away_is_told(local_parts: Settings, serve: Serve, path: str) -> None:
    away = local_parts.model_copy(
        update={"clickhouse_url": f"http://u:secret@{ABSENT}", "kafka_brokers": ABSENT}
    )
    status, text, _ = get(serve(away), path)
    assert status == 503
    assert "does not answer" in text
    assert "secret" not in text


@pytest.mark.parts
def test_a_database_without_tables_is_told(local_parts: Settings, serve: Serve) -> None:
    nowhere = local_parts.model_copy(
        update={"clickhouse_url": local_parts.clickhouse(), "kafka_brokers": ABSENT, "database": "nowhere"}
    )
    status, text, _ = get(serve(nowhere), "/")
    assert status == 503
    assert "metering migrate" in text


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_hundred_thousand_customers_are_paged_and_found(
    books: Callable[[str], Settings], serve: Serve
) -> None:
    settings = books("web_many")
    with connect(settings.clickhouse(), settings.database) as client:
        client.command(
            "INSERT INTO catalog_customers (customer, name, plan, currency, stripe_customer, revision)"
            " SELECT format('c{}', leftPad(toString(number), 6, '0')), format('Name {}', number), 'p', 'USD',"
            " '', 1 FROM numbers(100000)"
        )
        client.command(
            "INSERT INTO charges (customer, period, price, hour, currency, amount, card, line)"
            " SELECT customer, '2026-10', 'p', toDateTime('2026-10-02 00:00:00', 'UTC'), 'USD', 1.5, 'card',"
            " 'usage' FROM catalog_customers"
        )
    address = serve(settings)
    _, text, _ = get(address, "/customers?page=2000")
    assert "100,000 customers" in text
    assert "Page 2,000 of 2,000" in text
    assert "c099999" in text
    _, text, _ = get(address, "/customers?q=NAME+77777", **{"HX-Request": "true"})
    assert "1 customer " in text
    assert "<html" not in text
    _, text, _ = get(address, "/")
    assert "USD, 100,000 customers" in text
    assert '150,000.00<span class="micro">0000</span>' in text
    assert len(text) < 30_000


def test_what_is_vendored_is_what_was_taken() -> None:
    import hashlib
    from pathlib import Path

    for folder in (STATIC / "vendor", Path(__file__).parent / "vendor"):
        sums = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
        assert set(sums) == {file.name for file in folder.iterdir() if file.suffix in (".js", ".css")}
        for name, wanted in sums.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == wanted
