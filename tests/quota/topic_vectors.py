"""Makes `tests/vectors/quota/topic.json`: records of `quota.state`, as an owner writes them, and answers.

The records come from the real owner, the answers stand here. `python -m tests.quota.topic_vectors`
writes the file; programs in other languages read it and must come to the same answers.
"""

import json
from pathlib import Path
from typing import Any

from metering.quota.limits import ONE
from metering.quota.quotas import Quotas
from metering.quota.wire import Reserve
from tests.quota.world import HOUR, START, catalog, quotas

FILE = Path(__file__).parent.parent / "vectors" / "quota" / "topic.json"
LIMIT = {"id": "l", "meter": "tokens", "units": 100, "window": "day"}
CALLS = {"id": "r", "meter": "calls", "requests": 10, "window": "hour"}
Step = dict[str, Any]


class Story:
    """An owner, and what a reader sees and is asked; `at` of a step is the reader's own clock."""

    def __init__(
        self, title: str, *limits: dict[str, Any], skew: int = 0, lag_ms: int = 1_000, **more: Any
    ) -> None:
        self.title = title
        self.owner: Quotas = quotas(catalog({"limits": limits or [LIMIT], **more}), lag_ms=lag_ms)
        self.now, self.skew, self.offset = START, skew, 0
        self.steps: list[Step] = []

    def record(self, key: bytes, value: bytes | None, partition: int = 0) -> None:
        plain = None if value is None else value.decode()
        said = {"partition": partition, "key": key.decode(), "value": plain, "at": self.now + self.skew}
        self.steps.append({"record": said})

    def beat(self) -> "Story":
        self.owner.advance(self.now)
        self.record(*self.owner.heartbeat(self.now))
        return self

    def live(self) -> "Story":
        """A heartbeat of a fold that has read its log, a moment after the last record."""
        self.record(*self.owner.heartbeat(self.wait(1).now))
        return self

    def sync(self) -> "Story":
        """The reader sees all states, and a heartbeat behind them."""
        return self.states().beat()

    def states(self) -> "Story":
        """The reader sees all states."""
        self.owner.advance(self.now)
        for key, value in self.owner.take(self.offset).states:
            self.record(key, value)
        return self

    def begin(self) -> "Story":
        """The reader has read the topic to its end."""
        self.sync()
        self.steps.append({"end": True})
        return self

    def wait(self, ms: int) -> "Story":
        self.now += ms
        return self

    def used(self, units: int, customer: str = "a", requests: int = 1, meter: str = "tokens") -> "Story":
        self.owner.advance(self.now)
        self.owner.post(customer, meter, (), self.now, units * ONE, requests)
        self.offset += 1
        return self

    def refused_before(self, offset: int) -> "Story":
        """Records up to an offset became dead letters: no state changes."""
        self.offset = offset
        return self.sync()

    def change(self, *limits: dict[str, Any]) -> "Story":
        """Another catalog is in force."""
        self.owner.adopt(catalog({"limits": list(limits)}))
        return self.sync()

    def reserved(self, units: int, name: str = "r1") -> "Story":
        self.owner.advance(self.now)
        reply = self.owner.ask(Reserve(name, "x", "a", "tokens", str(units * ONE), whole=True))
        assert reply.reason == "granted", reply
        return self

    def own(self, units: int, offset: int | None, customer: str = "a", meter: str = "tokens") -> "Story":
        """The reader has sent usage; no offset: it is still on its way to the broker."""
        named = {"customer": customer, "meter": meter, "quantity": str(units * ONE), "requests": 1}
        self.steps.append({"own": {**named, "offset": offset}})
        return self

    def check(
        self,
        quantity: int | str,
        answer: str,
        customer: str = "a",
        meter: str = "tokens",
        **more: Any,
    ) -> "Story":
        """`answer` is verdict, reason and limit."""
        verdict, reason, *limit = answer.split()
        micro = str(quantity * ONE) if isinstance(quantity, int) else quantity
        asked = {"customer": customer, "meter": meter, "quantity": micro, "requests": 1, **more}
        told = {"verdict": verdict, "reason": reason, "limit": "".join(limit)}
        self.steps.append({"check": {**asked, "at": self.now + self.skew}, "answer": told})
        return self


def admission() -> list[Story]:
    return [
        Story("far from the limit it is allowed, near it the owner is asked, beyond it is denied")
        .begin()
        .check(99, "allow ok")
        .check(100, "reserve strict_zone l")
        .check(101, "deny limit_reached l")
        .check("99000001", "reserve strict_zone l"),
        Story("posted + reserved + cost")
        .begin()
        .used(40)
        .wait(62_000)
        .sync()
        .reserved(30)
        .sync()
        .check(29, "allow ok")
        .check(30, "reserve strict_zone l")
        .check(31, "deny limit_reached l"),
        Story("the strict zone is as wide as usage flows")
        .begin()
        .used(20)
        .sync()
        .check(40, "allow ok")
        .check(41, "reserve strict_zone l"),
        Story("what costs nothing is allowed", {**LIMIT, "units": 0})
        .begin()
        .check(0, "allow ok")
        .check(1, "deny limit_reached l"),
        Story("a quantity below zero is none").begin().check(-1, "deny bad_quantity"),
        Story("above 2^53 no digit is lost", {**LIMIT, "units": 20_000_000_001})
        .begin()
        .used(10_000_000_000)
        .wait(62_000)
        .sync()
        .check("9800000000990000", "allow ok")
        .check("9800000000990001", "reserve strict_zone l")
        .check("10000000001000000", "reserve strict_zone l")
        .check("10000000001000001", "deny limit_reached l"),
        Story("requests count requests, whatever the quantity", CALLS)
        .begin()
        .check(1_000, "allow ok", meter="calls", requests=9)
        .check(1, "reserve strict_zone r", meter="calls", requests=10)
        .check(1, "deny limit_reached r", meter="calls", requests=11)
        .check(1, "allow ok", meter="calls", requests=0),
        Story("no limit on the meter, or none at all")
        .begin()
        .check(1, "allow no_limit", meter="calls")
        .check(1, "allow no_limit", customer="stranger"),
        Story("the least of several limits", {**LIMIT, "id": "wide", "units": 1_000}, LIMIT)
        .begin()
        .check(101, "deny limit_reached l"),
    ]


def kinds() -> list[Story]:
    pool = {"id": "p", "limits": [{"id": "all", "meter": "tokens", "units": 100, "window": "day"}]}
    members = [{"id": "a", "pool": "p"}, {"id": "b", "pool": "p"}]
    money = {"id": "m", "meter": "calls", "money": "1", "window": "month"}
    return [
        Story("soft: allowed and marked", {**LIMIT, "kind": "soft"})
        .begin()
        .check(500, "allow ok")
        .used(80)
        .sync()
        .check(500, "allow warn l")
        .used(40)
        .sync()
        .check(500, "allow over l"),
        Story("grace in percent, from the first use on", {**LIMIT, "kind": "grace", "grace": "10%"})
        .begin()
        .check(108, "allow ok")
        .check(110, "reserve strict_zone l")
        .check(111, "deny limit_reached l"),
        Story("grace for a time, before it has begun", {**LIMIT, "kind": "grace", "grace": "1h"})
        .begin()
        .check(500, "allow ok"),
        Story("a monitor never denies", {**LIMIT, "kind": "monitor"})
        .begin()
        .used(500)
        .sync()
        .check(500, "allow over l"),
        Story("hard: warned, then blocked")
        .begin()
        .used(85)
        .wait(62_000)
        .sync()
        .check(1, "allow warn l")
        .used(15)
        .sync()
        .check(1, "deny limit_reached l"),
        Story("money: without a state only the owner knows what it buys", money)
        .begin()
        .check(1, "reserve unknown m", meter="calls"),
        Story("money: the room is in what a caller counts", money)
        .begin()
        .used(40, meter="calls")
        .wait(62_000)
        .sync()
        .check(59, "allow ok", meter="calls")
        .check(60, "reserve strict_zone m", meter="calls")
        .check(61, "deny limit_reached m", meter="calls"),
        Story("members of a pool", {**LIMIT, "units": 1_000}, pools=[pool], customers=members)
        .begin()
        .used(90, "b")
        .wait(62_000)
        .sync()
        .check(9, "allow warn all")
        .check(11, "deny limit_reached all"),
        Story("usage that a limit does not count", {**LIMIT, "units": 0, "where": {"region": ["eu"]}})
        .begin()
        .check(1, "allow ok", dimensions={"region": "us"})
        .check(1, "deny limit_reached l", dimensions={"region": "eu"})
        .check(1, "deny limit_reached l"),
    ]


def own_usage() -> list[Story]:
    pool = {"id": "p", "limits": [{"id": "all", "meter": "tokens", "units": 100, "window": "day"}]}
    members = [{"id": "a", "pool": "p"}, {"id": "b", "pool": "p"}]
    return [
        Story("own usage counts while it is on its way")
        .begin()
        .own(60, None)
        .check(39, "allow ok")
        .check(40, "reserve strict_zone l")
        .check(41, "deny limit_reached l"),
        Story("own usage counts until a state or a heartbeat includes its offset")
        .begin()
        .own(60, 1)
        .used(10)
        .sync()  # as of offset 1, which is the next
        .check(31, "deny limit_reached l")
        .used(60)
        .wait(62_000)
        .sync()
        .check(29, "allow ok"),
        Story("a state includes own usage before a heartbeat says so")
        .begin()
        .own(60, 0)
        .used(60)
        .states()
        .check(40, "reserve strict_zone l")
        .check(41, "deny limit_reached l"),
        Story("own usage that was refused is settled by a heartbeat")
        .begin()
        .own(90, 7)
        .check(50, "deny limit_reached l")
        .refused_before(8)
        .check(50, "allow ok"),
        Story("own usage of another member", pools=[pool], customers=members)
        .begin()
        .own(90, None, "b")
        .check(11, "deny limit_reached all"),
        _moved(),
    ]


def _moved() -> Story:
    """A topic has got more partitions: offsets of the one before mean nothing any more."""
    one = Story("a customer that has moved to another partition").begin()
    one.used(1).own(60, 5).states().check(40, "deny limit_reached l")
    profile = next(s["record"] for s in one.steps if '"profile"' in s["record"]["key"])
    one.record(profile["key"].encode(), profile["value"].encode(), 1)
    beat = {"kind": "progress", "partition": 1, "offset": 0, "at": one.now, "emitted": one.now}
    one.record(b'["progress",1]', json.dumps({**beat, "version": "1"}).encode(), 1)
    return one.check(97, "allow ok").own(60, 0).check(40, "deny limit_reached l")


def windows() -> list[Story]:
    rolling = {**LIMIT, "window": "rolling 1h"}
    return [
        Story("a new window needs no record")
        .begin()
        .used(100)
        .sync()
        .check(1, "deny limit_reached l")
        .wait(24 * HOUR)
        .beat()
        .check(50, "allow ok"),
        Story("a rolling window has one key", rolling)
        .begin()
        .used(100)
        .sync()
        .check(1, "deny limit_reached l")
        .wait(2 * HOUR)
        .sync()
        .check(50, "allow ok"),
        Story("a changed limit is in force at once")
        .begin()
        .used(90)
        .wait(62_000)
        .change({**LIMIT, "units": 200})
        .check(108, "allow ok")
        .check(111, "deny limit_reached l"),
        Story("a limit that is dropped", {**LIMIT, "units": 0}).begin().change().check(1, "allow no_limit"),
    ]


def trust() -> list[Story]:
    soft = {**LIMIT, "kind": "soft"}
    return [
        Story("before the topic is read the owner is asked").check(1, "reserve not_ready"),
        Story("a view that is behind: the strict zone is as wide as it is old")
        .begin()
        .used(20)
        .wait(62_000)
        .sync()
        .wait(1_500)
        .check(79, "allow ok")
        .wait(1_500)
        .check(78, "allow ok")
        .check(79, "reserve behind l")
        .check(80, "reserve strict_zone l")
        .check(81, "deny limit_reached l")
        .check(0, "allow ok"),
        Story("how old a view may be is in the heartbeat", lag_ms=200)
        .begin()
        .wait(3_000)
        .check(90, "allow ok")
        .check(91, "reserve behind l"),
        Story("what has no bound is never behind", {**LIMIT, "kind": "soft"})
        .begin()
        .wait(30_000)
        .check(500, "allow ok"),
        Story("the view is too old: a hard limit denies")
        .begin()
        .wait(60_000)
        .check(1, "allow ok")
        .wait(1)
        .check(1, "deny stale l")
        .beat()
        .check(1, "allow ok"),
        Story("the view is too old: a soft limit allows", soft)
        .begin()
        .wait(60_001)
        .check(1, "allow stale l"),
        Story("the clock of the reader is three hours behind", skew=-3 * HOUR)
        .wait(23 * HOUR)
        .begin()
        .used(100)
        .sync()
        .check(1, "deny limit_reached l")
        .wait(2 * HOUR)
        .beat()
        .check(50, "allow ok"),
        Story("the clock of the reader is three hours ahead", skew=3 * HOUR)
        .wait(20 * HOUR)
        .begin()
        .check(1, "deny stale l")
        .used(100)
        .sync()
        .live()
        .check(1, "deny limit_reached l"),
        Story("an old heartbeat is not a clock that is ahead", skew=HOUR).begin().check(1, "deny stale l"),
        Story("the heartbeat of a fold that is behind is not a clock that is ahead", skew=HOUR)
        .begin()
        .beat()
        .check(1, "deny stale l")
        .live()
        .check(1, "allow ok"),
    ]


def formats() -> list[Story]:
    state = json.dumps(["state", "a", "a", "l", START]).encode()
    profile = b'["profile","a","a"]'
    made = []

    def story(title: str, key: bytes, value: bytes | None, answer: str, partition: int = 0) -> None:
        one = Story(title).begin()
        one.record(key, value, partition)
        made.append(one.check(1, answer))

    story("a state of a newer format", state, b'{"kind":"state","v":2}', "reserve unknown l")
    story("a tombstone of the window that is open", state, None, "reserve unknown l")
    story("a state that cannot be read", state, b"{", "reserve unknown l")
    story("limits of a newer format", profile, b'{"kind":"profile","v":2}', "reserve newer_format")
    story("limits that are gone", profile, None, "allow no_limit")
    for number, key in enumerate((b"", b"{", b"[]", b'["state"]', b'["other",1]')):
        story(f"a key that makes no sense, {number}", key, b"{}", "allow ok")
    beats = Story("a heartbeat of a newer format does not count").begin().wait(60_001)
    beats.record(b'["progress",0]', b'{"kind":"progress","v":2}')
    made.append(beats.check(1, "deny stale l"))
    other = Story("another partition's heartbeat does not count").begin().wait(60_001)
    beat = {"kind": "progress", "partition": 1, "offset": 9, "at": other.now, "emitted": other.now}
    other.record(b'["progress",1]', json.dumps({**beat, "version": "1"}).encode(), 1)
    made.append(other.check(1, "deny stale l"))
    return [*made, _unknown_field(), _older_record()]


def _unknown_field() -> Story:
    one = Story("a field that is not known").begin().used(100).sync()
    said = next(s["record"] for s in one.steps[3:] if '"state"' in s["record"]["key"])
    said["value"] = said["value"].replace("{", '{"later":[1],', 1)
    return one.check(1, "deny limit_reached l")


def _older_record() -> Story:
    one = Story("a record that is older than the one before").begin().used(10)
    old = one.owner.take(1).states
    one.used(90).sync()
    for key, value in old:
        one.record(key, value)
    return one.check(1, "deny limit_reached l")


def stories() -> list[Story]:
    return [*admission(), *kinds(), *own_usage(), *windows(), *trust(), *formats()]


def text() -> str:
    """The file: one step a line."""
    told = []
    for one in stories():
        steps = ",\n".join("    " + json.dumps(step, ensure_ascii=False) for step in one.steps)
        told.append(f'  {{"title": {json.dumps(one.title)}, "steps": [\n{steps}\n  ]}}')
    return "[\n" + ",\n".join(told) + "\n]\n"


if __name__ == "__main__":
    FILE.write_text(text())
