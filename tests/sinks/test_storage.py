"""The books on the real engine: replays converge, nothing is cut, nothing is lost."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from metering.errors import UserError
from metering.local import parts
from metering.periods import revisions, unclosed
from metering.records import (
    Approved,
    Charge,
    DeadLetter,
    HourlyTotal,
    PeriodClose,
    Progress,
    RatingError,
    Slice,
    version,
)
from metering.settings import Settings
from metering.sinks.client import Remedy, connect, remedy_for
from metering.sinks.exact import decimals_of
from metering.sinks.migrate import bundled, migrate, statements
from metering.sinks.queries import Books
from metering.sinks.rows import COLUMNS, TableRow, of_record
from metering.sinks.writer import Origin, Writer
from metering.state.postings import close_digest

HOUR = 1_698_796_800
AT = Origin("usage.charges", 0, 0, 9)


@pytest.fixture
def client(deployment: Settings) -> Iterator[Any]:
    migrate(deployment.clickhouse(), deployment.database)
    with connect(deployment.clickhouse(), deployment.database) as opened:
        yield opened


def row(record: Any) -> TableRow:
    made = of_record(record)
    assert made is not None
    return made


def total(quantity: str, at: int, hour: int = HOUR) -> TableRow:
    return row(HourlyTotal("a", "tokens", hour, quantity, 1, str(version(1, at)), 0, {"kind": "x"}))


def charge(amount: str, at: int, hour: int = HOUR, **changes: Any) -> Charge:
    part = Slice(1, "10", "0.1", "0", amount)
    made = Charge(
        "a", "2023-11", "p", "tokens", hour, "USD", "10", "0", "10", amount, "0", "card", "v1", 1, [part],
        str(version(1, at)),
    )  # fmt: skip
    return type(made)(**{**{f: getattr(made, f) for f in made.__struct_fields__}, **changes})


def write(settings: Settings, *batches: tuple[list[TableRow], Origin]) -> None:
    async def work() -> None:
        writer = Writer(settings.clickhouse(), settings.database)
        try:
            for rows, origin in batches:
                await writer.write(rows, origin)
        finally:
            await writer.close()

    asyncio.run(work())


def one(client: Any, sql: str) -> Any:
    return client.query(sql).result_rows[0][0]


def test_migrating_twice_changes_nothing(client: Any, deployment: Settings) -> None:
    assert migrate(deployment.clickhouse(), deployment.database) == []


def test_an_edited_migration_is_refused(client: Any, deployment: Settings) -> None:
    edited = [m._replace(sql=m.sql + "\n-- changed") for m in bundled()]
    with pytest.raises(UserError, match="was edited after"):
        migrate(deployment.clickhouse(), deployment.database, edited)


def test_the_default_database_is_refused(deployment: Settings) -> None:
    with pytest.raises(UserError, match="cannot be the database"):
        migrate(deployment.clickhouse(), "default")


def test_statements_are_cut_outside_strings_and_comments() -> None:
    assert list(statements("a ';' b; -- c; d\n e; /* f; */")) == ["a ';' b", "e"]


def test_every_table_has_the_columns_that_are_written(client: Any) -> None:
    for table, columns in COLUMNS.items():
        held = [r[0] for r in client.query(f"DESCRIBE TABLE {table}").result_rows]
        assert columns == held, table


def test_the_newest_version_wins_in_any_order(client: Any, deployment: Settings) -> None:
    batches = [
        ([total("40", 3)], AT),
        ([total("10", 1)], AT._replace(first=1)),
        ([total("40", 3)], AT._replace(first=2)),
    ]
    write(deployment, *batches)
    assert one(client, "SELECT sum(quantity) FROM hourly_current") == Decimal(40)


def test_a_batch_that_is_sent_twice_counts_once(client: Any, deployment: Settings) -> None:
    write(deployment, ([total("10", 1)], AT), ([total("10", 1)], AT))
    assert one(client, "SELECT count() FROM hourly") == 1


def test_sums_are_exact(client: Any, deployment: Settings) -> None:
    rows = [total("0.000001", 1, HOUR + h * 3600) for h in range(1000)]
    write(deployment, (rows, AT))
    assert one(client, "SELECT sum(quantity) FROM hourly_current") == Decimal("0.001")


def test_a_row_with_too_many_decimals_is_put_aside_and_the_others_stored(
    client: Any, deployment: Settings
) -> None:
    good = [total("1", 1, HOUR + h * 3600) for h in range(5)]
    bad = TableRow("hourly", ("a", "m", good[0].row[2], "{}", Decimal("0.0000001"), 1, 0, 1))
    write(deployment, ([*good[:3], bad, *good[3:]], AT))
    assert one(client, "SELECT count() FROM hourly_current") == 5
    assert Books(client).rejected_by_reason() == {"sink_refused": 1}


def test_rows_wait_for_a_database_that_is_away(tmp_path: Any, local_parts: Settings) -> None:
    settings = Settings(home=tmp_path, kafka_brokers="unused:1", database="books")
    parts.up(settings)
    migrate(settings.clickhouse(), "books")
    url = settings.clickhouse()
    parts.down(settings)

    async def work() -> None:
        writer = Writer(url, "books")
        writing = asyncio.create_task(writer.write([total("7", 1)], AT))
        await asyncio.sleep(1.0)
        assert not writing.done()
        await asyncio.to_thread(parts.up, settings)
        await asyncio.wait_for(writing, 30)
        await writer.close()

    try:
        asyncio.run(work())
        with connect(url, "books") as client:
            assert one(client, "SELECT sum(quantity) FROM hourly_current") == Decimal(7)
    finally:
        parts.down(settings)


def test_a_bill_adds_up(client: Any, deployment: Settings) -> None:
    rows = [row(charge("1.500000", 1)), row(charge("2.250000", 1, HOUR + 3600))]
    write(deployment, (rows, AT))
    bill = Books(client).bill("a", "2023-11")
    assert bill is not None
    assert sum(line.amount for line in bill.lines) + bill.rounding == bill.total == Decimal("3.75")


def test_a_row_that_was_taken_back_is_not_read(client: Any, deployment: Settings) -> None:
    void = charge("0.000000", 2, card="", slices=[])
    write(deployment, ([row(charge("1.500000", 1)), row(void)], AT))
    assert one(client, "SELECT count() FROM charges_current") == 0


def test_a_close_agrees_only_with_all_its_charges(client: Any, deployment: Settings) -> None:
    digest = close_digest([("p", HOUR, 1_500_000), ("p", HOUR + 3600, 1_000_000)])
    close = PeriodClose("a", "2023-11", "USD", 2, 0, "2.500000", digest, 1, str(version(1, 5)))
    write(deployment, ([row(charge("1.500000", 1)), row(close)], AT))
    assert [c.agrees for c in Books(client).closes("2023-11")] == [False]
    write(deployment, ([row(charge("1.000000", 1, HOUR + 3600))], AT._replace(first=10)))
    assert [c.agrees for c in Books(client).closes("2023-11")] == [True]


def test_every_kind_of_record_has_its_table(client: Any, deployment: Settings) -> None:
    letter = DeadLetter("t", 0, 1, -1, "not_json", "d", "", "", "", 1, b"\xff\x00", str(version(1, 1)))
    error = RatingError("a", "2023-11", "m", HOUR, "1", "no_price", "d", str(version(1, 1)))
    progress = Progress("meter", 0, 1, 5, 0, 3, 1, 1, 1, 0, 1, "w", 1)
    write(deployment, ([row(letter), row(error), row(progress)], AT))
    assert bytes(one(client, "SELECT hex(payload) FROM rejected_current"), "ascii") == b"FF00"
    assert Books(client).rating_errors("2023-11") == 1
    assert Books(client).counters() == (3, 1, 1, 1, 0)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ConnectionRefusedError(), Remedy.RETRY),
        (TimeoutError(), Remedy.RETRY),
        (OverflowError(), Remedy.POISON),
        (KeyError(), Remedy.STOP),
    ],
)
def test_errors_outside_the_server_have_a_remedy(error: Exception, remedy: Remedy) -> None:
    assert remedy_for(error) is remedy


def test_an_address_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(UserError) as caught:
        connect("http://me:secret@127.0.0.1:9", "books")
    assert "127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_every_decimal_column_has_the_digits_that_the_writer_checks(
    client: Any, deployment: Settings
) -> None:
    """A row is refused when it has more digits than its column; the writer must know how many."""
    found = client.query(
        "SELECT table, name, toUInt32(extract(type, 'Decimal\\\\(\\\\d+, (\\\\d+)\\\\)')) FROM system.columns"
        " WHERE database = {database:String} AND type LIKE '%Decimal%' AND table IN {tables:Array(String)}",
        parameters={"database": deployment.database, "tables": list(COLUMNS)},
    ).result_rows
    assert len(found) > 10
    assert [(t, c, n) for t, c, n in found if decimals_of(c) != n] == []


def test_migrations_that_were_cut_off_are_applied_again(client: Any, deployment: Settings) -> None:
    client.command("TRUNCATE TABLE schema_versions")
    assert migrate(deployment.clickhouse(), deployment.database) == bundled()


def test_a_restated_close_stands_beside_the_first(client: Any, deployment: Settings) -> None:
    first = PeriodClose("a", "2023-11", "USD", 2, 0, "2.500000", "d0", 1, str(version(1, 5)))
    approved = [Approved("e1", "", "anna", "agreed", 7)]
    second = PeriodClose("a", "2023-11", "USD", 3, 0, "3.500000", "d1", 1, str(version(1, 9)), 1, approved)
    write(deployment, ([row(second), row(first), row(second)], AT))
    assert one(client, "SELECT digest FROM period_closes_current") == "d1"
    assert one(client, "SELECT digest FROM period_first_closes") == "d0"
    assert [(r.number, r.digest, len(r.approvals)) for r in revisions(client, "a", "2023-11")] == [
        (0, "d0", 0),
        (1, "d1", 1),
    ]


@pytest.mark.parametrize(
    ("mark", "state", "over"),
    [(HOUR + 5 * 3600 + 60, "open", HOUR + 5 * 3600), (HOUR + 30 * 86_400 + 60, "grace", HOUR + 30 * 86_400)],
)
def test_a_period_is_open_then_in_its_grace_by_the_watermark(mark: int, state: str, over: int) -> None:
    found = unclosed("a", "2023-11", mark * 1_000, 24, (1, Decimal(1), "USD"))
    assert found.over is not None
    assert (found.state, found.over.timestamp()) == (state, over)
