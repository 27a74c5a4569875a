"""The bill as one HTML page without a script or an outside request; it prints on A4."""

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from metering.bills import wording
from metering.bills.document import BillDocument

_FILTERS = {
    "money": wording.money,
    "exact": wording.exact,
    "quantity": wording.quantity,
    "headline": wording.headline,
    "effect": wording.effect_words,
    "cards": wording.cards,
    "columns": wording.part_columns,
    "instant": wording.instant,
    "adds_up": wording.adds_up,
    "status": wording.status_words,
}


def escaping_environment(package: str) -> Environment:
    """Templates of a package: everything is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_FILTERS)
    return made


def _visible(value: object) -> object:
    return wording.shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return escaping_environment("metering.bills")


@lru_cache(maxsize=1)
def stylesheet() -> str:
    """The page's style; its hash is what a content policy may allow."""
    source, _, _ = _environment().loader.get_source(_environment(), "bill.css")  # type: ignore[union-attr]
    return source


def as_html(bill: BillDocument) -> str:
    """A page that stands alone; names from outside are text in it, never markup."""
    # The stylesheet is ours, and the only thing that is not escaped.
    return _environment().get_template("bill.html").render(bill=bill, css=Markup(stylesheet()))
