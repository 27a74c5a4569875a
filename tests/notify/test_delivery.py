"""From something that happened to a signed webhook and an e-mail: once, in the end, or on the dead list."""

import base64
import email
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.policy import default
from pathlib import Path
from typing import Any, get_args

import pytest

from metering.errors import UserError
from metering.notify.channels import Channels
from metering.notify.config import load_config
from metering.notify.happening import Happening, Kind
from metering.notify.outbox import PAUSES, Outbox
from metering.notify.process import Notifier
from metering.notify.signature import headers, secret_bytes
from tests.notify.conftest import SECRET, Hook, Mails

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)


def blocked(number: int = 1, customer: str = "acme") -> Happening:
    facts = {"customer": customer, "meter": "calls", "limit": "calls-a-day", "used": "10", "of": "10"}
    return Happening("quota.blocked", (str(number),), AT, {**facts, "window_start": "2026-11-20T00:00:00Z"})


class World:
    """A notifier with a clock of its own, over what a test lets happen."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.now = 1_000_000
        self.happened: list[Happening] = []
        self.since: list[int] = []
        self._file, self._folder = file, folder
        self.outbox = Outbox(folder / "outbox.sqlite3")
        self.open()

    def open(self) -> None:
        config, keys = load_config(self._file)
        self.notifier = Notifier(config, Channels(config, keys), self.outbox, self._look, lambda: self.now)

    def restart(self) -> None:
        self.outbox.close()
        self.outbox = Outbox(self._folder / "outbox.sqlite3")
        self.open()

    def _look(self, since: int) -> list[Happening]:
        self.since.append(since)
        return list(self.happened)


@pytest.fixture
def world(config_file: Path, tmp_path: Path) -> Iterator[World]:
    made = World(config_file, tmp_path)
    made.notifier.round()  # the first one remembers what there is
    yield made
    made.outbox.close()


def text_of(envelope: Any) -> Any:
    return email.message_from_bytes(envelope.content, policy=default)


def test_a_signature_is_that_of_the_specifications_example() -> None:
    made = headers(
        secret_bytes(SECRET, "here"), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}'
    )
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_happens_reaches_every_target_that_wants_it(world: World, hook: Hook, mails: Mails) -> None:
    world.happened = [blocked()]
    assert world.notifier.round()[:3] == (2, 2, 0)
    ((said, body),) = hook.got
    assert json.loads(body)["type"] == "quota.blocked"
    assert json.loads(body)["data"]["customer"] == "acme"
    assert said["webhook-id"] == blocked().id
    signed = f"{said['webhook-id']}.{said['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert said["webhook-signature"] == f"v1,{wanted}"
    (envelope,) = mails.got
    assert text_of(envelope)["Subject"] == "acme is blocked by calls-a-day"
    assert envelope.rcpt_tos == ["finance@example.com"]


def test_the_same_event_is_sent_once_however_often_it_is_seen(world: World, hook: Hook) -> None:
    world.happened = [blocked(), blocked()]
    for _ in range(3):
        world.notifier.round()
        world.restart()
    assert len(hook.got) == 1


def test_what_a_target_does_not_want_is_not_sent_to_it(world: World, hook: Hook, mails: Mails) -> None:
    world.happened = [Happening("billing.drift", ("x",), AT, {"customer": "a"})]
    world.notifier.round()
    assert (len(hook.got), len(mails.got)) == (1, 0)


def test_what_happened_before_the_first_round_is_only_remembered(
    config_file: Path, tmp_path: Path, hook: Hook
) -> None:
    world = World(config_file, tmp_path / "new")
    world.happened = [blocked()]
    assert world.notifier.round()[:3] == (0, 0, 0)
    world.notifier.round()
    assert hook.got == []
    world.outbox.close()


def test_from_the_start_means_everything(config_file: Path, tmp_path: Path, hook: Hook) -> None:
    world = World(config_file, tmp_path / "new")
    world.happened = [blocked()]
    world.notifier.round(from_start=True)
    assert len(hook.got) == 1
    world.outbox.close()


def test_a_look_reaches_back_a_day_behind_the_one_before(world: World) -> None:
    world.now += 1_000
    world.notifier.round()
    assert world.since == [0, 1_000_000 - 86_400]


def test_a_target_that_fails_is_tried_again_with_the_same_id_and_body(world: World, hook: Hook) -> None:
    hook.answers = [500, 503]
    world.happened = [blocked()]
    world.notifier.round()
    world.notifier.round()
    assert len(hook.got) == 1, "not before its pause is over"
    for pause in PAUSES[:2]:
        world.now += pause
        world.notifier.round()
    assert len(hook.got) == 3
    assert len({(said["webhook-id"], body) for said, body in hook.got}) == 1
    assert world.outbox.dead() == []


def test_after_the_last_pause_it_is_dead_until_a_person_lets_it_go_again(world: World, hook: Hook) -> None:
    hook.answers = [500] * (len(PAUSES) + 1)
    world.happened = [blocked()]
    world.notifier.round()
    for pause in PAUSES:
        world.now += pause
        world.notifier.round()
    (dead,) = world.outbox.dead()
    assert (dead.target, dead.reason, dead.tries) == ("ops", "it answered 500", len(PAUSES) + 1)
    world.now += 10 * max(PAUSES)
    world.notifier.round()
    assert len(hook.got) == len(PAUSES) + 1, "nothing more is sent"
    assert world.outbox.retry(dead.event, world.now) == 1
    world.notifier.round()
    assert world.outbox.dead() == []


def test_an_address_that_is_gone_is_not_tried_again(world: World, hook: Hook) -> None:
    hook.answers = [410]
    world.happened = [blocked()]
    world.notifier.round()
    assert [one.reason for one in world.outbox.dead()] == ["it answered 410"]


def test_a_redirect_is_not_followed(world: World, hook: Hook) -> None:
    hook.answers = [302]
    world.happened = [blocked()]
    assert world.notifier.round().failed == 1
    assert len(hook.got) == 1


def test_an_address_that_does_not_answer_waits(world: World, hook: Hook) -> None:
    hook.stop()
    world.happened = [blocked()]
    assert world.notifier.round()[1:3] == (1, 1)
    (one,) = [d for d in world.outbox.of_event(blocked().id) if d.target == "ops"]
    assert one.state == "waiting"
    assert "cannot be reached" in one.reason


def test_a_mail_server_that_refuses_is_asked_again(world: World, mails: Mails) -> None:
    mails.refusing = "451 later"
    world.happened = [blocked()]
    world.notifier.round()
    mails.refusing = ""
    world.now += PAUSES[0]
    world.notifier.round()
    assert len(mails.got) == 1


def test_the_books_being_away_stops_no_delivery(world: World, hook: Hook) -> None:
    hook.answers = [500]
    world.happened = [blocked()]
    world.notifier.round()

    def away(_: int) -> list[Happening]:
        raise UserError("ClickHouse does not answer")

    world.notifier._look = away
    world.now += PAUSES[0]
    done = world.notifier.round()
    assert (done.sent, done.problem) == (1, "ClickHouse does not answer")


def test_a_hostile_name_steers_neither_header_nor_text(world: World, hook: Hook, mails: Mails) -> None:
    name = "a\r\nBcc: everybody@example.com\r\n\r\n{{7*7}} \u202e <script>"
    world.happened = [blocked(customer=name)]
    world.notifier.round()
    assert json.loads(hook.got[0][1])["data"]["customer"] == name
    (envelope,) = mails.got
    message = text_of(envelope)
    assert message["Bcc"] is None
    assert envelope.rcpt_tos == ["finance@example.com"]
    assert message["Subject"].startswith("a\\r\\nBcc: everybody@example.com")
    assert "{{7*7}} \\u202e" in message.get_content()


def test_a_template_of_ones_own_stands_before_ours(config_file: Path, tmp_path: Path, mails: Mails) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "quota.blocked.txt").write_text("Stopp: {{ data.customer }}\n\nBitte melden.\n")
    world = World(config_file, tmp_path / "new")
    world.happened = [blocked()]
    world.notifier.round(from_start=True)
    assert text_of(mails.got[0])["Subject"] == "Stopp: acme"
    world.outbox.close()


def test_a_template_that_fails_is_told_and_loses_nothing(config_file: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "quota.blocked.txt").write_text("{{ data.no_such_fact }}")
    world = World(config_file, tmp_path / "new")
    world.happened = [blocked()]
    world.notifier.round(from_start=True)
    (one,) = [d for d in world.outbox.of_event(blocked().id) if d.target == "finance"]
    assert one.state == "waiting"
    assert "no_such_fact" in one.reason
    world.outbox.close()


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_has_a_text(config_file: Path, kind: Kind) -> None:
    config, keys = load_config(config_file)
    names = (
        "customer period invoice state currency reason compared subject verdict wanted held note meter limit"
    )
    names += " window_start percent used of customers revision amount attempt text"
    one = Happening(kind, ("1",), AT, {name: f"<{name}>" for name in names.split()})
    outbox = Outbox(config_file.parent / "kinds.sqlite3")
    outbox.keep([(one, "finance")], 1)
    assert config.smtp is not None
    message = Channels(config, keys).message(config.emails[0], outbox.of_event(one.id)[0], config.smtp)
    assert message["Subject"]
    assert one.id in message.get_content()
    outbox.close()


MISTAKES: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.replace("secret_file: secret", "secret_file: nowhere"), "cannot be read"),
    (lambda text: text.replace("id: finance", "id: ops"), "two targets have the same id"),
    (lambda text: text.replace("smtp:", "smpt:"), "smpt: Extra inputs are not permitted"),
    (lambda text: text.replace("finance@example.com", "nobody"), "emails.0.to.0"),
    (lambda text: text.replace('url: "http', 'url: "ftp'), "webhooks.0.url"),
    (lambda text: text + "\n  - : [", "not YAML"),
]


@pytest.mark.parametrize(("mistake", "said"), MISTAKES)
def test_a_mistake_in_the_file_is_told_with_its_place(
    config_file: Path, mistake: Callable[[str], str], said: str
) -> None:
    config_file.write_text(mistake(config_file.read_text()))
    with pytest.raises(UserError, match=said):
        load_config(config_file)


@pytest.mark.parametrize("secret", ["whsec_!!", "whsec_c2hvcnQ="])
def test_a_weak_secret_is_refused_and_not_repeated(config_file: Path, secret: str) -> None:
    (config_file.parent / "secret").write_text(secret)
    with pytest.raises(UserError) as caught:
        load_config(config_file)
    assert secret not in str(caught.value)


PAGE = (Path(__file__).parent.parent.parent / "docs" / "notifications.md").read_text()


def test_the_file_on_the_page_is_a_configuration(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.S)
    assert found is not None
    (tmp_path / "notify.yaml").write_text(found[1])
    for name in ("ops.secret", "smtp.password"):
        (tmp_path / name).write_text(SECRET)
    config, _ = load_config(tmp_path / "notify.yaml")
    assert [target.id for target in config.targets()] == ["ops", "finance"]


def test_every_kind_is_on_the_page() -> None:
    assert not [kind for kind in get_args(Kind) if f"`{kind}`" not in PAGE]
