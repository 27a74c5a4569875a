"""Queries of the two data sources, and the pieces of SQL that panels share.

The plugin reads `format`, its editor reads `queryType`; a step apart, and an edit in the browser changes
the meaning of the panel. Variables are always written `${name:singlequote}`: Grafana's default
does not escape.
"""

from typing import Any

from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import Dataquery as PrometheusQuery

PLUGIN = "grafana-clickhouse-datasource"
PLUGIN_VERSION = "4.20.0"  # empty, and the editor takes the query for one of the old format
BOOKS = DataSourceRef(type_val=PLUGIN, uid="metering-clickhouse")
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="metering-prometheus")

SERIES, TABLE = 0, 1
_KINDS = {SERIES: "timeseries", TABLE: "table"}

CURRENCY = "currency = ${currency:singlequote}"
CUSTOMER = "$__conditionalAll(customer IN (${customer:singlequote}), $customer)"
PLAN = "$__conditionalAll(plan IN (${plan:singlequote}), $plan)"
METER = "$__conditionalAll(meter IN (${meter:singlequote}), $meter)"
HOURS = "$__timeFilter(hour)"
REVENUE = f"{HOURS} AND {CURRENCY} AND {PLAN} AND {METER} AND {CUSTOMER}"


# Charges of the range that their parts do not explain. Suspects are found without a look at versions, which would read and
# merge every array; the view decides on the few that are left.
UNEXPLAINED = f"""audit_unexplained WHERE {HOURS} AND (customer, period, price, hour) IN (
    SELECT customer, period, price, hour FROM audit_suspects WHERE {HOURS})"""

# What the provider said last of an invoice that it has; nothing of one that is still being sent or needs none.
PAYMENT = "multiIf(state != 'finalized', '–', payment = '', 'not known', payment)"


def money(expression: str) -> str:
    """An amount as text, all six decimals: the plugin would make a float of a Decimal."""
    return f"toDecimalString({expression}, 6)"


def divided(part: str, whole: str, digits: int = 6) -> str:
    """A quotient as text, cut to some digits; a dash where the divisor is zero."""
    return f"if({whole} = 0, '–', toDecimalString({quotient(part, whole, digits)}, {digits}))"


def quotient(part: str, whole: str, digits: int) -> str:
    """A quotient as a Decimal. The engine divides before it looks at a condition, so zero becomes one here."""
    divisor = f"toDecimal256(if({whole} = 0, 1, {whole}), 6)"
    return f"divideDecimal(toDecimal256({part}, 12), {divisor}, {digits})"


def percent(part: str, whole: str) -> str:
    """A share in percent as text with one decimal, a dash where the whole is zero."""
    return f"replaceOne(concat({divided(f'({part}) * 100', whole, 1)}, ' %'), '– %', '–')"


class ClickHouse(variants.Dataquery):
    """A target of the ClickHouse plugin, version 4."""

    def __init__(self, sql: str, form: int, ref: str = "A") -> None:
        self.sql, self.form, self.ref = sql, form, ref

    def to_json(self) -> dict[str, Any]:
        """The target as the plugin stores it."""
        return {
            "datasource": BOOKS,
            "pluginVersion": PLUGIN_VERSION,
            "editorType": "sql",
            "rawSql": self.sql,
            "queryType": _KINDS[self.form],
            "format": self.form,
            "meta": {},
            "refId": self.ref,
        }


class Target(builder.Builder[variants.Dataquery]):
    """What the panel builders take."""

    def __init__(self, query: variants.Dataquery) -> None:
        self._query = query

    def build(self) -> variants.Dataquery:
        """The query itself."""
        return self._query


def promql(expression: str, legend: str = "", *, instant: bool = False, ref: str = "A") -> PrometheusQuery:
    """A target of the Prometheus data source."""
    return PrometheusQuery(
        datasource=PROMETHEUS,
        expr=expression,
        legend_format=legend or None,
        instant=instant,
        range_val=not instant,
        ref_id=ref,
    )


def quantile(share: str, family: str, *labels: str) -> str:
    """The expression of a quantile of a histogram, by labels, over the interval of a drawn point."""
    by = ", ".join(["le", *labels])
    return f"histogram_quantile({share}, sum by ({by}) (rate({family}_bucket[$__rate_interval])))"
