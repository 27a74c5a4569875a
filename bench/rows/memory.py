"""What an id, an hourly total and an active customer-meter cost in memory.

Each is the difference to a base that is otherwise equal. A customer-meter holds its totals of all hours
of the load, and its customer's place in the catalog.
"""

from collections.abc import Iterator

from bench.measuring import durable
from bench.options import Options
from bench.place import World
from bench.results import Found

_IDS, _HOURS, _CUSTOMERS = 3, 10, 20  # times as many


def memory(world: World, options: Options) -> Iterator[Found]:
    """A base, the same with more ids, with more hours, with more customers."""
    base = options.loaded()
    more_ids = options.loaded(events=base.events * _IDS)
    more_hours = options.loaded(hours=base.hours * _HOURS)
    more_customers = options.loaded(customers=base.customers * _CUSTOMERS)
    first = durable(world, "memory: base", base)
    yield first
    found = durable(world, f"memory: {_IDS} times the ids", more_ids)
    grown = (_end(found) - _end(first)) / (found.events - first.events)
    found.parts["mib_a_million_ids"] = grown * 1e6
    yield found
    found = durable(world, f"memory: {_HOURS} times the hours", more_hours)
    keys = found.parts["hourly_totals"] - first.parts["hourly_totals"]
    found.parts["bytes_an_hourly_total"] = (_end(found) - _end(first)) / keys * 2**20
    yield found
    found = durable(world, f"memory: {_CUSTOMERS} times the customers", more_customers)
    meters = more_customers.customers - base.customers
    found.parts["mib_a_thousand_customer_meters"] = (_end(found) - _end(first)) / meters * 1_000
    yield found


def _end(found: Found) -> float:
    return found.series["rss"][-1]
