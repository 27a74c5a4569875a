"""The command line as a whole: each command is walked, so that a new one cannot be different."""

import ast
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Column
from typer.testing import CliRunner

from billing_sync.cli import app as billing_sync_app
from billing_sync.cli_examples import EXAMPLES as BILLING_EXAMPLES
from metering import console as terminal
from metering.cli import app as metering_app
from metering.cli_examples import EXAMPLES
from metering.console import Table, run_command, working
from metering.errors import UserError
from tests.walk import PROGRAMS, Found, find_command, groups, walk

ROOT = Path(__file__).parent.parent
COMMANDS = list(walk())
APPS: dict[str, Any] = {"metering": metering_app, "billing-sync": billing_sync_app}
SHOWN = {"metering": EXAMPLES, "billing-sync": BILLING_EXAMPLES}
# They run until they are stopped, or only do what they are told and say so in a line.
NO_DATA = {
    "metering": "dev worker sink quotad web local-up local-down catalog-publish topics-grow"
    " rebuild-clickhouse send events-export quota-watch grant-add grant-revoke limit-set notify-run"
    " notify-test notify-retry",
    "billing-sync": "periods-freeze periods-reopen carry-settle dead-retry dead-drop customers-map"
    " webhooks-serve webhooks-retry",
}


def each_command() -> Any:
    return pytest.mark.parametrize("found", COMMANDS, ids=[found.words for found in COMMANDS])


def words_of(example: str) -> list[str]:
    """The words of the last program of an example, without variables before it and files behind it."""
    words = shlex.split(example.split("|")[-1].split(">")[0])
    while "=" in words[0]:
        words = words[1:]
    return words


def options(found: Found) -> set[str]:
    return {name for parameter in found.command.params for name in parameter.opts}


@each_command()
def test_a_command_says_what_it_does_in_a_sentence(found: Found) -> None:
    first = (found.command.help or "").split("\n\n")[0].strip()
    assert first.endswith(".")
    assert first[0].isupper()


@each_command()
def test_every_option_says_what_it_is_for(found: Found) -> None:
    assert not [p.name for p in found.command.params if p.name != "help" and not p.help]


@each_command()
def test_a_command_has_an_example_of_its_own(found: Found) -> None:
    program, _, rest = found.words.partition(" ")
    examples = SHOWN[program][rest]
    assert all(example in found.command.epilog for example in examples)
    assert [e for e in examples if find_command(words_of(e)).words == found.words]


@pytest.mark.parametrize(
    "example", [e for shown in SHOWN.values() for examples in shown.values() for e in examples]
)
def test_an_example_is_a_command_that_there_is(example: str) -> None:
    find_command(words_of(example))


def test_no_example_is_left_behind() -> None:
    shown = {f"{program} {words}" for program, examples in SHOWN.items() for words in examples}
    assert not shown - {found.words for found in COMMANDS}


def test_an_option_that_does_not_exist_would_be_seen() -> None:
    with pytest.raises(ValueError, match="--forcibly"):
        find_command(["metering", "audit", "--forcibly"])


@each_command()
def test_what_shows_data_also_shows_it_as_json(found: Found) -> None:
    program, _, words = found.words.partition(" ")
    if words.replace(" ", "-") not in NO_DATA[program].split():
        assert "--json" in options(found)


# The vocabulary; a verb means the same wherever it stands.
VERBS = {
    "see": "show list top dead failed status bill periods explain audit whatif rate watch digest plan diff"
    " check preview",
    "compare": "verify reconcile doctor",
    "do": "send test add revoke set map freeze reopen settle drop publish apply migrate grow retry discard"
    " approve void amend revert rebuild clickhouse run",
    "write": "export",
    "stay": "serve quotad web dev worker sink demo up down",
}


@each_command()
def test_a_verb_is_one_of_the_vocabulary(found: Found) -> None:
    assert found.words.split()[-1] in " ".join(VERBS.values()).split()


@pytest.mark.parametrize("found", list(groups()), ids=lambda found: found.words)
def test_a_group_says_what_it_is_about(found: Found) -> None:
    assert (found.command.help or "").endswith(".")


# -- on the screen ----------------------------------------------------------------------------


def test_help_fits_80_columns_and_is_not_coloured_off_a_terminal() -> None:
    for found in COMMANDS:
        program, *words = found.words.split()
        said = CliRunner().invoke(APPS[program], [*words, "--help"], env={"COLUMNS": "80"})
        assert said.exit_code == 0
        assert "\x1b" not in said.output
        assert max(map(len, said.output.splitlines())) <= 80


def drawn(table: Table, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue().splitlines()


def test_a_table_that_does_not_fit_becomes_a_list_without_a_loss() -> None:
    table = Table("Customer", "Period", Column("Sum", justify="right", no_wrap=True), "Digest")
    row = (
        "a-customer-with-a-very-long-identifier-0001",
        "2026-11",
        "12,345,678,901.123456 USD",
        "1c0f33be0799",
    )
    table.add_row(*row)
    for width in (80, 60, 40):
        lines = drawn(table, width)
        assert max(map(len, lines)) <= width
        assert all(cell in "\n".join(lines) or width < 60 for cell in row)
        assert (
            row[0] in "".join("".join(line.split()) for line in lines).replace("Customer", "")[:43]
            or width > 40
        )


def test_a_table_that_fits_is_a_table() -> None:
    table = Table("Customer", "Period")
    table.add_row("acme-robotics", "2026-11")
    assert [line for line in drawn(table) if re.search(r"acme-robotics\W+2026-11", line)]


def test_every_table_is_ours() -> None:
    """One of rich's own cuts long ids off."""
    for package in ("metering", "billing_sync"):
        for file in (ROOT / package).rglob("*.py"):
            if file.name != "console.py":
                assert not re.search(r"from rich.table import .*\bTable\b", file.read_text()), file


def test_progress_is_shown_on_a_terminal_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=out, force_terminal=True, width=80))
    with working("computing") as tell:
        tell("computing the rest")
    assert "computing the rest" in out.getvalue()
    assert out.getvalue().rstrip().endswith("\x1b[2K")  # the line is wiped


def test_progress_says_nothing_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=out))
    monkeypatch.setattr(terminal, "errors", Console(file=err))
    with working("computing"):
        pass
    assert (out.getvalue(), err.getvalue()) == ("", "")


LONG = (
    "books_commands.audit books_commands.whatif books_commands.rate recovery/commands.state_verify"
    " recovery/commands.state_rebuild recovery/commands.rebuild_clickhouse"
    " recovery/commands.books_digest_command backfill/commands.preview backfill/commands.apply"
    " backfill/commands.revert rejected_commands.retry event_commands.export commands.send cli.topics_apply"
    " cli.topics_grow cli.migrate invariants/commands.watch"
).split()


@pytest.mark.parametrize("name", LONG)
def test_what_can_take_long_shows_that_it_works(name: str) -> None:
    file, _, function = name.partition(".")
    text = (ROOT / "metering" / f"{file}.py").read_text()
    body = re.split(rf"\ndef {function}\(", text)[1].split("\ndef ")[0]
    assert "working(" in body


# -- errors and exit codes --------------------------------------------------------------------


def ended(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> tuple[int, str]:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "errors", Console(file=out, width=80))

    def failing() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_command(failing)
    return int(str(stop.value.code)), out.getvalue()


def test_an_error_for_a_person_says_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = ended(monkeypatch, UserError("no [bold] catalog", hint="run `metering catalog publish DIR`"))
    assert code == 2
    assert said == "error: no [bold] catalog\n  → run `metering catalog publish DIR`\n"


def test_what_does_not_answer_says_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = ended(monkeypatch, TimeoutError())
    assert code == 2
    assert said.startswith("error: no answer in time\n  → ")


def test_a_defect_is_told_from_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 is an answer, that of Python for any exception too; so ours is another."""
    code, said = ended(monkeypatch, KeyError("x"))
    assert code == 70
    assert "defect" in said


DEAD = {
    "KAFKA_BROKERS": "127.0.0.1:9",
    "CLICKHOUSE_URL": "http://127.0.0.1:9",
    "METERING_DATABASE": "nobody",
    "COLUMNS": "80",
    "TERM": "dumb",
}
# Each reaches for another part, or for a file that is not there.
AWAY = [
    "metering bill acme --period 2026-11",
    "metering audit",
    "metering migrate",
    "metering topics apply",
    "metering catalog show",
    "metering send missing.jsonl",
    "metering rate --catalog missing --usage missing.jsonl",
    "metering status",
    "metering explain acme --period 2026-13",
    "metering correct amend x --data nonsense --reason y",
]


@pytest.mark.parametrize("line", AWAY)
def test_what_is_away_is_an_error_with_a_next_step(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**DEAD, "METERING_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: metering_app(shlex.split(line)[1:]))
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert re.search(r"^error: .*\n  → ", err, re.M)
    assert out == ""


def test_every_error_for_a_person_has_a_next_step() -> None:
    for package in ("metering", "billing_sync"):
        for file in (ROOT / package).rglob("*.py"):
            calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
            errors = [call for call in calls if getattr(call.func, "id", "") == "UserError"]
            assert not [f"{file}:{call.lineno}" for call in errors if not call.keywords]


def test_bad_usage_exits_with_2() -> None:
    assert CliRunner().invoke(APPS["metering"], ["audit", "--nonsense"]).exit_code == 2


def test_completion_knows_the_commands() -> None:
    """What a shell asks when Tab is pressed."""
    program = PROGRAMS["metering"]
    env = {"_METERING_COMPLETE": "complete_bash", "COMP_WORDS": "metering re", "COMP_CWORD": "1"}
    said = CliRunner().invoke(metering_app, [], env=env, prog_name="metering")
    assert {"rebuild", "rejected"} <= set(said.output.split())
    assert {"rebuild", "rejected"} <= program.commands.keys()


def test_json_stays_json_when_ids_look_like_markup() -> None:
    out = io.StringIO()
    Console(file=out, highlight=False, emoji=False).print_json(json.dumps({"customer": "[red]:smile:"}))
    assert json.loads(out.getvalue()) == {"customer": "[red]:smile:"}
