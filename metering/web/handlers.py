"""The pages: each asks the books once and fills one template."""

import asyncio
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from aiohttp import web
from jinja2 import Environment

from metering.bills.document import BillDocument, bill_document
from metering.bills.html import escaping_environment
from metering.bills.output import rendered
from metering.errors import UserError
from metering.rejected import Filter, Letters
from metering.settings import Settings
from metering.sinks.queries import Books, Counters
from metering.state import calendar
from metering.topics import Names
from metering.web.charts import Point, chart
from metering.web.library import LIBRARY
from metering.web.operations import pipeline, watched
from metering.web.reads import DAY_WORDS, PAGE_ROWS, Found, Listed, PeriodCount, Reads, Sum

SETTINGS: web.AppKey[Settings] = web.AppKey("settings", Settings)
BILL_STYLE: web.ResponseKey[bool] = web.ResponseKey("bill_style", bool)
_TYPES = {"html": "text/html", "pdf": "application/pdf", "csv": "text/csv"}
_LONGEST_SEARCH = 200
_LAST_PAGE = 1_000_000


class NotThere(UserError):
    """What was asked for does not exist."""


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = escaping_environment("metering.web")
    made.filters["query"] = _query
    made.filters["moment"] = _instant
    return made


def _query(values: dict[str, object]) -> str:
    return urlencode({name: value for name, value in values.items() if value not in ("", None)})


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else "not known"


def render(request: web.Request, template: str, *, status: int = 200, **values: Any) -> web.Response:
    """A page from a template of ours."""
    text = _environment().get_template(template).render(path=request.path, **values)
    return web.Response(text=text, content_type="text/html", status=status)


class Overview(NamedTuple):
    """What the first page shows of a period."""

    periods: list[str]
    period: str
    counters: Counters
    sums: list[Sum]
    top: list[Listed]
    charts: list[tuple[str, str]]  # currency, JSON


async def overview(request: web.Request) -> web.Response:
    """What has come in, what it costs, who."""
    found = await request.app[LIBRARY].ask(lambda client: _overview(client, request.query.get("period", "")))
    return render(request, "overview.html", page=found)


def _overview(client: Any, wanted: str) -> Overview:
    reads = Reads(client)
    periods = reads.periods()
    period = _period(wanted, periods)
    days, sums = reads.days(period), reads.sums(period)
    charts = [
        (s.currency, chart(Point(d.day, s.currency, d.amount) for d in days if d.currency == s.currency))
        for s in sums
    ]
    return Overview(periods, period, Books(client).counters(), sums, reads.top(period), charts)


async def arrived(request: web.Request) -> web.Response:
    """The counters alone, for the page that stands open."""
    counters = await request.app[LIBRARY].ask(lambda client: Books(client).counters())
    return render(request, "arrived.html", counters=counters)


class Listing(NamedTuple):
    """A page of the customers."""

    text: str
    period: str
    number: int
    pages: int
    found: Found


async def customers(request: web.Request) -> web.Response:
    """All customers, searched and paged."""
    text = request.query.get("q", "").strip()[:_LONGEST_SEARCH]
    number = min(_number(request.query.get("page", "")), _LAST_PAGE)

    def ask(client: Any) -> Listing:
        reads = Reads(client)
        period = _period(request.query.get("period", ""), reads.periods())
        found = reads.find(text, number - 1, period)
        return Listing(text, period, number, max(1, -(-found.total // PAGE_ROWS)), found)

    listing = await request.app[LIBRARY].ask(ask)
    template = "listing.html" if request.headers.get("HX-Request") else "customers.html"
    return render(request, template, page=listing)


class CustomerPage(NamedTuple):
    """One customer and one of its periods; no bill when nothing was charged."""

    customer: Listed
    periods: list[str]
    period: str
    bill: BillDocument | None
    charts: list[tuple[str, str, str]]  # meter, what a bar is, JSON
    letters: int


async def customer(request: web.Request) -> web.Response:
    """One customer: usage, bill, explanation."""
    settings, name = request.app[SETTINGS], request.query.get("id", "")

    def ask(client: Any) -> CustomerPage:
        reads = Reads(client)
        found = reads.customer(name)
        periods = reads.periods(name) if name else []
        if found is None and not periods:
            raise NotThere(f"there is no customer `{name}`", hint="search for a part of its name or id")
        period = _period(request.query.get("period", ""), periods)
        bill = bill_document(client, settings, name, period)
        usage = reads.usage(name, period)
        charts = [
            (
                meter,
                DAY_WORDS.get(kind, ""),
                chart(Point(d.day, meter, d.quantity) for d in usage if d.meter == meter),
            )
            for meter, kind in sorted({(day.meter, day.aggregation) for day in usage})
        ]
        shown = found or Listed(name, name, "", "", None)
        return CustomerPage(shown, periods, period, bill, charts, reads.letters_of(name))

    return render(request, "customer.html", page=await request.app[LIBRARY].ask(ask))


async def bill(request: web.Request) -> web.Response:
    """The bill as page, PDF or CSV."""
    settings = request.app[SETTINGS]
    name, form = request.query.get("customer", ""), request.query.get("form", "html")
    if form not in _TYPES:
        raise NotThere(f"there is no form `{form}`", hint="html, pdf or csv")
    period = _period(request.query.get("period", ""), [])

    def ask(client: Any) -> bytes:
        document = bill_document(client, settings, name, period)
        if document is None:
            raise NotThere(f"nothing was charged to `{name}` in {period}", hint="choose another period")
        return rendered(document, form, settings)

    answer = web.Response(
        body=await request.app[LIBRARY].ask(ask), content_type=_TYPES[form], charset="utf-8"
    )
    if form == "html":
        answer[BILL_STYLE] = True
    else:
        file = quote(f"bill-{name}-{period}.{form}")
        answer.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{file}"
    return answer


class InBooks(NamedTuple):
    """What the operations page takes from the books."""

    counters: Counters
    letters: dict[str, Any]
    periods: list[PeriodCount]
    unpriced: int


async def operations(request: web.Request) -> web.Response:
    """Partitions and watermark, dead letters, periods, invariants."""
    settings = request.app[SETTINGS]

    def ask(client: Any) -> InBooks:
        books, reads = Books(client), Reads(client)
        letters = Letters(client, Names(settings).events).count(Filter())
        return InBooks(books.counters(), letters, reads.period_counts(), reads.unpriced())

    found, standing, checks = await asyncio.gather(
        request.app[LIBRARY].ask(ask),
        asyncio.to_thread(pipeline, settings),
        asyncio.to_thread(watched, settings),
    )
    return render(request, "operations.html", books=found, pipeline=standing, watched=checks)


def _period(wanted: str, there: list[str]) -> str:
    """The period that was asked for, else the newest one, else this month."""
    if not wanted:
        return there[0] if there else datetime.now(UTC).strftime("%Y-%m")
    try:
        calendar.period(wanted)
    except ValueError as error:
        raise NotThere(f"`{wanted}` is not a billing period", hint="write it as 2026-11") from error
    return wanted


def _number(text: str) -> int:
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 9 else 1
