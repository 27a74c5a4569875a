"""What an event is for its meters, as it came and as the archive keeps it."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from metering.events import UsageEvent, decode_values, event_of
from metering.state.measure import measure
from tests.state.folding import CATALOG as PRICED
from tests.state.folding import catalog

METERS = """
meters:
  - {id: sum, event_type: use, aggregation: sum, value: n, scale: 6}
  - {id: paid, event_type: pay, aggregation: priced, value: n, unit_price: p, max_unit_price: "1000"}
  - {id: users, event_type: who, aggregation: unique, value: p}
  - {id: large, event_type: big, aggregation: count, filters: {p: ["1.5", "1E+5"]}, dimensions: [n]}
"""
UNPRICED = "      - from: 2023-01-01T00:00:00Z\n        not_charged: [sum, paid, users, large]\n"
TEXT = PRICED.replace("meters:\n", METERS.lstrip())
CATALOG = catalog(TEXT.replace("      - from: 2023-01-01T00:00:00Z\n", UNPRICED))
NUMBERS = st.one_of(
    st.integers(-5, 10**20).map(str),
    st.sampled_from("1.5 1.50 1e5 1E5 2.5e-3 1e-7 0.0000001 1e17 1e18 1e400 true".split()),
    st.decimals(0, 10**6, places=7).map(str),
)


@given(st.sampled_from(["use", "pay", "who", "big"]), NUMBERS, NUMBERS)
def test_the_archive_measures_as_the_event_did(kind: str, n: str, p: str) -> None:
    raw = f'{{"id":"1","customer":"a","type":"{kind}","time":1700000000000,"data":{{"n":{n},"p":{p}}}}}'
    ((_, _, event, _),) = decode_values([raw.encode()])
    assert isinstance(event, UsageEvent)
    plain = {
        "id": "1",
        "customer": "a",
        "type": kind,
        "time": event.at,
        "data": msgspec.json.decode(msgspec.json.encode(event.data)),
    }
    assert measure(event_of(plain), CATALOG) == measure(event, CATALOG)
