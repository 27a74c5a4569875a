"""The compiled scanner against the decoder of single events: what it reads is read alike, or it is left."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering import native
from metering.events import UsageEvent, decode_values
from metering.state.calendar import hour_of
from metering.state.dedupe import content_of, identity_of
from metering.state.measure import plain_number, text_of

pytestmark = pytest.mark.skipif(native.scan is None, reason="no C compiler was there at the installation")
TEXTS, NUMBERS = ("kind", "zone"), (("n", 3), ("size", 6))
PLAIN: dict[str, Any] = {
    "id": "e1",
    "customer": "acme",
    "source": "gateway",
    "type": "use",
    "time": 1_767_571_200_000,
    "data": {"kind": "x", "n": 7},
}
scalars = st.one_of(
    st.integers(-(2**70), 2**70),
    st.decimals(-(10**9), 10**9, places=6).map(str),
    st.sampled_from(
        ["5", "007", "1.25", "1.2345", "5.", ".5", "-1", "1e3", "", "x", "a b", "\u00e9", "\n", '"', "\\"]
    ),
    st.sampled_from([0, -0.0, 0.5, 1e-7, 1e300, 12.345, True, False, None, 10**17, 10**18, 2**63]),
    st.text(max_size=300),
)
names = st.one_of(
    st.sampled_from(["a", "acme", "n" * 256, "n" * 257, "\u00fc", "", "a\x7f"]), st.text(max_size=130)
)
times = st.one_of(
    st.integers(-1, 2**60),
    st.datetimes().map(lambda at: at.isoformat(timespec="milliseconds") + "Z"),
    st.datetimes().map(lambda at: at.isoformat(timespec="microseconds") + "+00:00"),
    st.sampled_from(
        ["2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "1969-12-31T23:59:59Z", "2026-01-05T24:00:00Z"]
    ),
)
events = st.fixed_dictionaries(
    {"id": names, "customer": names, "source": names, "time": times},
    optional={
        "specversion": st.sampled_from(["1.0", ""]),
        "subject": names,
        "extra": scalars,
        "lease": names,
    },
).flatmap(
    lambda fields: st.dictionaries(
        st.sampled_from(["kind", "zone", "n", "size", "z", "a", "\u00e9"]), scalars
    ).map(lambda data: {**fields, "type": "use", "data": data})
)
spaces = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r")])


def scanner() -> Any:
    assert native.scan is not None
    return native.scan.Scanner([("use", TEXTS, NUMBERS)])


def check(values: list[bytes | None]) -> list[int]:
    """Each row is an event that the decoder finds; the values that are left."""
    value_of, place, _, codes, at, packed, whole, micro, left, fresh = scanner().scan(values)
    items = {(item.value, item.place): item for item in decode_values(values)}
    for row in range(len(at)):
        item = items.pop((int(value_of[row]), int(place[row])))
        event = item.event
        assert isinstance(event, UsageEvent)
        identity, content = bytes(packed[row, :12]), int.from_bytes(bytes(packed[row, 12:]))
        assert (identity, content, int(at[row])) == (identity_of(event), content_of(event), event.at)
        data = event.data or {}
        texts = tuple(text_of(data.get(name)) for name in TEXTS)
        assert fresh[codes[row]] == (0, event.customer, hour_of(event.at), texts)
        for n, (name, scale) in enumerate(NUMBERS):
            said = plain_number(data.get(name), scale)
            assert micro[n][row] == (said if said < 2**63 else -1)
            assert whole[n][row] == (data[name] if type(data.get(name)) is int and said >= 0 else -1)
    assert {value for value, _ in items} == set(left)
    return list(left)


@settings(max_examples=400, deadline=None)
@given(st.lists(events, min_size=1, max_size=4), spaces, st.booleans())
def test_it_reads_what_the_decoder_reads(
    found: list[dict[str, Any]], space: tuple[str, str], plain: bool
) -> None:
    values = [
        json.dumps(one, separators=space, ensure_ascii=plain).encode("utf-8", "replace") for one in found
    ]
    check([*values, b"[" + b",".join(values) + b"]"])


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 200), st.binary(max_size=3), st.integers(0, 3))
def test_a_broken_value_is_left_or_is_what_the_decoder_says(place: int, put: bytes, cut: int) -> None:
    whole = json.dumps(PLAIN).encode()
    check([whole, whole[:place] + put + whole[place + cut :], b"[" + whole + b"]"])


@pytest.mark.parametrize(
    "value",
    [
        *(None, b"", b" ", b"{", b"[", b"[]", b"{}", b"[{}]", b"\x00", b'{"', b'{"id":', b'{"id":"e1"', b"7"),
        *(
            b"[" * 9_999,
            b'{"data":{"a":' * 9_999,
            b"[" + b",".join([json.dumps(PLAIN).encode()] * 1_001) + b"]",
        ),
        *(
            json.dumps({**PLAIN, **odd}).encode()
            for odd in ({"type": "other"}, {"data": {"n": [1]}}, {"backfill": "b"})
        ),
        json.dumps(PLAIN).encode() + b"\x00",
        json.dumps({**PLAIN, "data": {f"k{n}": n for n in range(33)}}).encode(),
        json.dumps({**PLAIN, "data": {"kind": "k" * 5_000}}).encode(),
        b'{"id":"e1","id":"e2"' + json.dumps(PLAIN).encode()[11:],
        json.dumps(PLAIN).replace('"n": 7', '"n": 7, "n": 8').encode(),
    ],
)
def test_what_is_not_plain_is_left(value: bytes | None) -> None:
    whole = json.dumps(PLAIN).encode()
    assert check([whole, value, whole]) == [1]


@pytest.mark.parametrize("size", [1, 100, 120, 121, 122, 123, 127, 128, 200, 248, 249, 250, 256])
def test_a_name_of_any_length_has_its_fingerprint(size: int) -> None:
    assert (
        check([json.dumps({**PLAIN, "id": "i" * size, "source": "s" * n}).encode() for n in (0, 1, 250)])
        == []
    )


def test_a_place_keeps_its_code() -> None:
    one = scanner()
    first, second = (one.scan([json.dumps({**PLAIN, "id": name}).encode()]) for name in ("e1", "e2"))
    assert (first[3].tolist(), second[3].tolist(), len(first[9]), second[9]) == ([0], [0], 1, [])
