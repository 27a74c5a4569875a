"""Other languages read the same vectors as this test; the records in them are those that an owner writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import DefaultPartitioner

from metering.quota.gate import Own
from metering.quota.local import LocalView
from metering.state.partitioning import murmur2, partition_of
from tests.quota.topic_vectors import FILE, text

STORIES = json.loads(FILE.read_text())
PLACES = json.loads((Path(FILE).parent / "partitions.json").read_text())


@pytest.mark.parametrize("story", [pytest.param(s, id=s["title"]) for s in STORIES])
def test_a_reader_answers_as_the_vectors_say(story: dict[str, Any]) -> None:
    view, own = LocalView(), list[Own]()
    for number, step in enumerate(story["steps"]):
        if "record" in step:
            one = step["record"]
            value = None if one["value"] is None else one["value"].encode()
            view.apply(one["key"].encode(), value, one["partition"], one["at"])
        elif "own" in step:
            sent = step["own"]
            own.append(view.begin(sent["customer"], sent["meter"], int(sent["quantity"]), sent["requests"]))
            if sent["offset"] is not None:
                view.delivered(own[-1], sent["offset"])
        elif "check" in step:
            asked = {**step["check"], "now_ms": step["check"]["at"]}
            del asked["at"]
            found = view.check(**{**asked, "quantity": int(asked["quantity"])})
            assert found[:3] == tuple(step["answer"].values()), f"step {number}: {step}"
        else:
            view.is_ready = step["end"]


def test_the_records_are_those_that_an_owner_writes() -> None:
    assert FILE.read_text() == text(), "run `python -m tests.quota.topic_vectors`"


def test_every_answer_of_a_reader_is_in_the_vectors() -> None:
    reasons = {step["answer"]["reason"] for story in STORIES for step in story["steps"] if "answer" in step}
    served = "ok warn over no_limit strict_zone behind unknown"
    assert reasons == {*served.split(), *"limit_reached stale not_ready bad_quantity newer_format".split()}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: repr(place["key"][:9]))
def test_a_key_lies_in_the_partition_that_the_vectors_say(place: dict[str, Any]) -> None:
    key = place["key"].encode()
    assert murmur2(key) == place["murmur2"]
    everywhere = list(range(12))
    assert DefaultPartitioner()(key, everywhere, everywhere) == place["partitions"]["12"]
    assert {n: partition_of(place["key"], int(n)) for n in place["partitions"]} == place["partitions"]
