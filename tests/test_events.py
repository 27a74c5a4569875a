"""Decoding: three forms, exact numbers, a reason for everything that is refused."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events import ENVELOPE_LIMIT, Item, Refusal, UsageEvent, decode_values

FLAT = {"id": "1", "customer": "c", "type": "t", "time": 1_700_000_000_000, "data": {"n": 1}}
CLOUD = {
    "specversion": "1.0",
    "id": "1",
    "source": "s",
    "type": "t",
    "subject": "c",
    "time": "2023-11-14T22:13:20Z",
    "data": {"n": 1},
}


def decode(*values: bytes | None) -> list[Item]:
    return list(decode_values(values))


def one(value: object) -> UsageEvent | Refusal:
    (item,) = decode(value if isinstance(value, bytes) else json.dumps(value).encode())
    return item.event


def reason(value: object) -> str:
    refused = one(value)
    assert isinstance(refused, Refusal)
    return refused.reason


def test_both_forms_say_the_same() -> None:
    flat, cloud = one({**FLAT, "source": "s"}), one(CLOUD)
    assert isinstance(flat, UsageEvent)
    assert isinstance(cloud, UsageEvent)
    assert (flat.id, flat.source, flat.customer, flat.at) == (cloud.id, "s", "c", cloud.at)


def test_an_envelope_is_opened_in_order() -> None:
    items = decode(json.dumps([{**FLAT, "id": str(n)} for n in range(3)]).encode())
    assert [(i.value, i.place, i.event.id) for i in items] == [(0, 0, "0"), (0, 1, "1"), (0, 2, "2")]  # type: ignore[union-attr]


def test_one_broken_event_of_an_envelope_spares_the_others() -> None:
    items = decode(json.dumps([FLAT, {"id": 5}, FLAT]).encode())
    assert [isinstance(i.event, Refusal) for i in items] == [False, True, False]


def test_numbers_with_a_fraction_keep_every_digit() -> None:
    event = one(b'{"id":"1","customer":"c","type":"t","time":1,"data":{"n":0.12345678901234567890}}')
    assert isinstance(event, UsageEvent)
    assert event.data == {"n": Decimal("0.12345678901234567890")}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "empty"),
        (b"   ", "empty"),
        (b"{", "not_json"),
        (b"5", "wrong_type"),
        (b"\xff\xfe", "not_json"),
        (b'{"id":"\xff"}', "not_utf8"),
        (b"[" * 100_000, "not_json"),
        (b"[]", "envelope_size"),
        ({**FLAT, "id": 5}, "wrong_type"),
        ({**FLAT, "id": ""}, "missing_field"),
        ({**FLAT, "data": [1]}, "wrong_type"),
        ({k: v for k, v in FLAT.items() if k != "customer"}, "missing_field"),
        ({k: v for k, v in FLAT.items() if k != "time"}, "missing_field"),
        ({k: v for k, v in CLOUD.items() if k != "subject"}, "missing_field"),
        ({**FLAT, "time": "2023-11-14T22:13:20"}, "time_without_zone"),
        ({**FLAT, "time": "yesterday"}, "wrong_type"),
        ({**FLAT, "time": -1}, "time_out_of_range"),
        ({**FLAT, "time": 10**20}, "time_out_of_range"),
        ({**FLAT, "id": "x" * 257}, "unusable_name"),
        ({**FLAT, "id": "a\u0000b"}, "unusable_name"),
        ([[FLAT]], "wrong_type"),
    ],
)
def test_what_cannot_be_read_has_a_reason(value: object, expected: str) -> None:
    assert reason(value) == expected


def test_an_envelope_of_ten_thousand_is_refused_as_one() -> None:
    assert reason([FLAT] * 10_000) == "envelope_size"


def test_an_envelope_at_the_limit_is_read() -> None:
    assert len(decode(json.dumps([FLAT] * ENVELOPE_LIMIT).encode())) == ENVELOPE_LIMIT


def test_a_refusal_names_who_sent_it_where_it_can_be_read() -> None:
    refused = one({**FLAT, "time": True})
    assert isinstance(refused, Refusal)
    assert (refused.customer, refused.event_id, refused.event_type) == ("c", "1", "t")


def test_values_cannot_run_into_each_other() -> None:
    whole = json.dumps(FLAT).encode()
    left, right = whole + b'\n{"id":"', b'2"}'
    assert [isinstance(i.event, Refusal) for i in decode(left, right, whole)] == [True, True, False]


def test_five_megabytes_of_noise_are_one_refusal() -> None:
    assert reason(b"\x00\x93" * (5 << 19)) == "not_json"


@given(st.lists(st.one_of(st.none(), st.binary(max_size=40), st.just(json.dumps(FLAT).encode()))))
def test_no_bytes_crash_it_and_none_vanish(values: list[bytes | None]) -> None:
    assert {item.value for item in decode_values(values)} == set(range(len(values)))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_no_json_crashes_it(value: object) -> None:
    assert decode(json.dumps(value).encode())
