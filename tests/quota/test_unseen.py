"""What a reservation says of the client's own usage, and what a lease of the application covers."""

from metering.quota.held import answered
from metering.quota.limits import ONE
from metering.quota.wire import Reserve, Unseen
from tests.quota.test_local import Client


def unseen(client: Client) -> Unseen | None:
    return client.view.ask(Reserve("r", "x", "a", "tokens", "0", requests=0)).unseen


def test_a_reservation_says_what_is_being_sent_and_has_no_offset_yet() -> None:
    client = Client()
    client.view.begin("a", "tokens", 5 * ONE)
    assert unseen(client) == Unseen(str(5 * ONE), until=-1)


def test_a_reservation_says_how_far_an_owner_must_have_come() -> None:
    client = Client()
    client.view.delivered(client.view.begin("a", "tokens", 5 * ONE), offset=7)
    assert unseen(client) == Unseen(str(5 * ONE), until=8)


def test_a_reservation_says_nothing_of_what_a_state_includes() -> None:
    client = Client()
    client.view.delivered(client.view.begin("a", "tokens", 5 * ONE), offset=0)
    client.used_elsewhere(5)
    client.sync()
    assert unseen(client) is None


def given(client: Client, units: int, requests: int = 5) -> str:
    request = Reserve("r", "x", "a", "tokens", str(units * ONE), requests=requests)
    asked = client.view.ask(request)
    client.owner.advance(client.now)
    reply = client.owner.ask(request)
    answered(asked, reply)
    client.view.give("a", "tokens", reply, client.now)
    return reply.lease


def test_usage_under_a_lease_of_the_application_is_not_counted_twice() -> None:
    client = Client()
    client.view.begin("a", "tokens", 40 * ONE, lease=given(client, 50))
    client.sync()
    assert unseen(client) is None


def test_usage_beyond_a_lease_of_the_application_counts() -> None:
    client = Client()
    lease = given(client, 50)
    client.view.begin("a", "tokens", 40 * ONE, lease=lease)
    client.view.begin("a", "tokens", 11 * ONE, lease=lease)
    assert unseen(client) == Unseen(str(11 * ONE), until=-1)


def test_usage_under_a_lease_that_was_given_back_counts() -> None:
    client = Client()
    lease = given(client, 50)
    client.view.take_back(lease)
    client.view.begin("a", "tokens", 10 * ONE, lease=lease)
    assert unseen(client) == Unseen(str(10 * ONE), until=-1)


def test_a_repeated_reply_covers_nothing_more() -> None:
    client = Client()
    client.view.begin("a", "tokens", 40 * ONE, lease=given(client, 50))
    client.view.begin("a", "tokens", 40 * ONE, lease=given(client, 50))
    assert unseen(client) == Unseen(str(40 * ONE), until=-1)


def test_usage_under_a_lease_that_is_over_counts() -> None:
    client = Client()
    lease = given(client, 50)
    client.view.begin("a", "tokens", 10 * ONE, lease=lease, now_ms=client.now + 30_000)
    assert unseen(client) == Unseen(str(10 * ONE), until=-1)
