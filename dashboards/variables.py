"""The variables of the dashboards: small lists that load fast, also with 100,000 customers."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from dashboards.query import BOOKS

Variable = Builder[model.VariableModel]

LISTED = 1_000  # a browser shows no longer list well; `search` narrows it, and any id can be typed

# The currency of most customers comes first: it is what a dashboard opens with.
_CURRENCIES = (
    "SELECT currency FROM catalog_customers_current GROUP BY currency ORDER BY count() DESC, currency"
)
_PLANS = "SELECT DISTINCT plan FROM catalog_customers_current WHERE plan != '' ORDER BY plan"
_METERS = "SELECT DISTINCT meter FROM hourly ORDER BY meter"
_PERIODS = "SELECT DISTINCT period FROM charges ORDER BY period DESC"
_CUSTOMERS = f"""SELECT customer, concat(name, ' · ', customer) FROM catalog_customers_current
WHERE positionCaseInsensitiveUTF8(concat(name, ' ', customer), ${{search:singlequote}}) > 0 OR ${{search:singlequote}} = ''
ORDER BY name, customer LIMIT {LISTED}"""
_PRICES = """SELECT DISTINCT price FROM charges
WHERE customer = ${customer:singlequote} AND period = ${period:singlequote} ORDER BY price"""


def _asked(name: str, label: str, sql: str, about: str) -> build.QueryVariable:
    query: dict[str, object] = {"refId": name, "queryType": "sql", "rawSql": sql}
    return (
        build.QueryVariable(name)
        .label(label)
        .description(about)
        .datasource(BOOKS)
        .query(query)
        .definition(sql)
        .refresh(model.VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(model.VariableSort.DISABLED)
        .allow_custom_value(True)
    )


def _several(made: build.QueryVariable) -> Variable:
    every = model.VariableOption(selected=True, text="All", value="$__all")
    return made.multi(True).include_all(True).current(every)


def currency() -> Variable:
    """One currency, always: amounts of two are never added up."""
    return _asked("currency", "Currency", _CURRENCIES, "Amounts of different currencies are never added up.")


def plan() -> Variable:
    """Plans of the catalog in force."""
    return _several(_asked("plan", "Plan", _PLANS, "The plan that a customer is on now."))


def meter() -> Variable:
    """Meters with usage."""
    return _several(_asked("meter", "Meter", _METERS, "Meters that have counted something; fees have none."))


def period() -> Variable:
    """Billing periods, the newest first."""
    return _asked("period", "Billing period", _PERIODS, "A calendar month in UTC.")


def price() -> Variable:
    """Prices of the chosen customer and period."""
    return _asked("price", "Price", _PRICES, "A line of the bill.")


def search() -> Variable:
    """Text that narrows the list of customers."""
    return (
        build.TextBoxVariable("search")
        .label("Find a customer")
        .description(f"Part of a name or an id. The list beside it shows at most {LISTED:,}.")
        .default_value("")
    )


def customers() -> Variable:
    """Any number of customers."""
    return _several(_customer())


def customer() -> Variable:
    """One customer."""
    return _customer()


def _customer() -> build.QueryVariable:
    return _asked("customer", "Customer", _CUSTOMERS, "Narrow the list on the left, or type an id.")


def text(name: str, label: str, about: str) -> Variable:
    """A value that a person types."""
    return build.TextBoxVariable(name).label(label).description(about).default_value("")
