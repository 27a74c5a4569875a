"""What if another catalog had been in force: history rated again, old against new, nothing written."""

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from metering.catalog.models import CatalogFile
from metering.catalog.resolved import Catalog, resolve
from metering.errors import UserError
from metering.rating.money import MICRO, format_micro, parse_decimal
from metering.rating.rows import Unpriced
from metering.rating.terms import Period
from metering.rerate import cuts, read_usage, rerate

if TYPE_CHECKING:
    import pandas as pd


class WhatIf(NamedTuple):
    """Old, new and difference by customer and price, biggest first; usage the new catalog leaves out."""

    table: "pd.DataFrame"
    unpriced: list[Unpriced]


def what_if(client: Any, new: Catalog, period: Period, customer: str = "") -> WhatIf:
    """Rate a period under another catalog as if it were closed, against the books.

    Closed customers are compared with their charges, open ones with the catalog in force.
    """
    import pandas as pd  # it takes a second to import, and other commands need `catalog_in_force`

    in_force = catalog_in_force(client)
    uses = list(read_usage(client, cuts(period, new, in_force), period, customer))
    then = rerate(new, uses, period)
    old = rerate(in_force, uses, period).amounts
    closed = _closed(client, period)
    customers = {c for c, _ in closed}
    old = {place: amount for place, amount in old.items() if place[0] not in customers} | closed
    places = sorted(old.keys() | then.amounts.keys())
    rows = [(c, p, old.get((c, p), 0), then.amounts.get((c, p), 0)) for c, p in places if customer in ("", c)]
    rows.sort(key=lambda row: (-abs(row[3] - row[2]), row[0], row[1]))
    table = pd.DataFrame(
        [(c, p, _money(a), _money(b), _money(b - a)) for c, p, a, b in rows if a or b],
        columns=["customer", "price", "old", "new", "difference"],
    )
    return WhatIf(table, [u for u in then.unpriced if customer in ("", u.customer)])


def _money(micro: int) -> Decimal:
    return Decimal(format_micro(micro))


def _closed(client: Any, period: Period) -> dict[tuple[str, str], int]:
    """What closed customers were charged for the period, later corrections of it included."""
    rows = client.query(
        "SELECT customer, if(corrects = '', price, splitByChar('@', price)[1]) AS what, sum(amount)"
        " FROM charges_current WHERE if(corrects = '', period, corrects) = {period:String}"
        " AND customer IN (SELECT customer FROM period_closes_current WHERE period = {period:String})"
        " GROUP BY customer, what",
        parameters={"period": period.name},
    ).result_rows
    return {(customer, price): parse_decimal(amount, MICRO) for customer, price, amount in rows}


def catalog_in_force(client: Any) -> Catalog:
    """The latest catalog revision that the books hold."""
    rows = client.query("SELECT revision, content FROM catalog ORDER BY revision DESC LIMIT 1").result_rows
    if not rows:
        raise UserError("the books hold no catalog", hint="publish one and let the sink run")
    revision, content = rows[0]
    return resolve(CatalogFile.model_validate(json.loads(content)), revision=int(revision))
