"""Every charge explains itself, has a card version, and comes out the same in SQL."""

from metering.invariants.base import Broken, Invariant
from metering.invariants.facts import Facts


class ChargesInSql(Invariant):
    """A second implementation comes to the same charges."""

    name = "charges_in_sql"
    means = "each charge that the audit covers = the charge computed from the hourly totals in SQL"
    remedy = "Do not bill the period; `metering audit --period P` lists every row with both figures."
    travels = True

    def check(self, facts: Facts) -> list[Broken]:
        """Ask the audit."""
        return _audited(facts, "charge")


class HourlyFromArchive(Invariant):
    """Nothing is counted that was not sent, and nothing is lost between."""

    name = "hourly_from_archive"
    means = "each hourly total = the archived events of its hour, added up in SQL"
    remedy = (
        "Do not bill the period; `metering audit --period P` lists the hours. If the archive was rebuilt"
        " after Kafka had deleted events, it is the archive that is short."
    )
    travels = True

    def check(self, facts: Facts) -> list[Broken]:
        """Ask the audit."""
        return _audited(facts, "hourly")


class RowsExplained(Invariant):
    """Slices, effects and rounding are the whole story of a row."""

    name = "rows_explained"
    means = "the parts of each charge add up to its amount, and its quantities to each other"
    remedy = "A row was changed or written by something else: `metering rebuild clickhouse --into NAME`."

    def check(self, facts: Facts) -> list[Broken]:
        """Ask the audit."""
        return _audited(facts, "explanation")


class CardVersions(Invariant):
    """No charge without the price list that it came from."""

    name = "card_versions"
    means = "each charge names its rate card and version, and a row taken back is zero"
    remedy = "A row was changed or written by something else: `metering rebuild clickhouse --into NAME`."

    def check(self, facts: Facts) -> list[Broken]:
        """Look at every current row, those taken back included."""
        rows = facts.rows(
            "SELECT period, customer, price, toString(hour), card, card_version, toString(amount)"
            " FROM charges FINAL WHERE has({periods:Array(String)}, period)"
            " AND ((card != '' AND card_version = '') OR (card = '' AND (card_version != '' OR amount != 0)))"
            " ORDER BY period, customer, price, hour",
            periods=facts.periods,
        )
        return [
            Broken(f"{period} {customer} {price} {hour}", f"card `{card}` version `{v}`, {amount}", "both")
            for period, customer, price, hour, card, v, amount in rows
        ]


def _audited(facts: Facts, check: str) -> list[Broken]:
    return [
        Broken(f"{d.period} {d.customer} {d.what} {d.hour}", d.in_books, d.expected)
        for audit in facts.audits
        for d in audit.differences
        if d.check == check
    ]
