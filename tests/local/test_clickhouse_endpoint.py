"""The endpoint speaks ClickHouse's protocol: clients cannot tell it from a server."""

import asyncio
import gzip
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import lz4.frame
import pytest
import requests
from clickhouse_connect.driver.exceptions import DatabaseError

from metering.local import clickhouse_wire as wire
from metering.settings import Settings


def address(settings: Settings) -> dict[str, Any]:
    place = urlsplit(settings.clickhouse())
    return {"host": place.hostname, "port": place.port}


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", False])
def test_rows_go_in_and_out_with_every_codec(local_parts: Settings, codec: Any) -> None:
    with clickhouse_connect.get_client(**address(local_parts), compress=codec) as client:
        client.command("CREATE DATABASE IF NOT EXISTS codecs")
        client.command("CREATE OR REPLACE TABLE codecs.t (n Int64, s String) ENGINE = MergeTree ORDER BY n")
        rows = [[n, "x" * 50] for n in range(100_000)]  # more than one block
        client.insert("t", rows, column_names=["n", "s"], database="codecs")
        assert client.query("SELECT count(), sum(n) FROM codecs.t").result_rows == [(100_000, 4_999_950_000)]


@pytest.mark.parametrize(("days", "code"), [([3], 469), (range(0, 4_000, 31), 252)])
def test_an_insert_that_fails_behind_the_parser_is_an_error(
    local_parts: Settings, days: list[int], code: int
) -> None:
    with clickhouse_connect.get_client(**address(local_parts)) as client:
        client.command("CREATE DATABASE IF NOT EXISTS refusals")
        client.command(
            "CREATE OR REPLACE TABLE refusals.t (day Date, CONSTRAINT not_the_third CHECK toUInt16(day) != 3)"
            " ENGINE = MergeTree PARTITION BY toYYYYMM(day) ORDER BY day"
        )
        with pytest.raises(DatabaseError) as refused:
            client.insert("t", [[day] for day in days], column_names=["day"], database="refusals")
        assert refused.value.code == code


def test_an_insert_may_have_settings_of_its_own(local_parts: Settings) -> None:
    with clickhouse_connect.get_client(**address(local_parts)) as client:
        client.command("CREATE DATABASE IF NOT EXISTS settled")
        client.command("CREATE OR REPLACE TABLE settled.t (n Int64, s String) ENGINE = MergeTree ORDER BY n")
        client.command("INSERT INTO settled.t SETTINGS max_insert_threads = 1 FORMAT CSV", data="1,a\n2,b\n")
        assert client.query("SELECT * FROM settled.t").result_rows == [(1, "a"), (2, "b")]


def test_the_async_client_works(local_parts: Settings) -> None:
    async def work() -> Any:
        client = await clickhouse_connect.get_async_client(**address(local_parts))
        try:
            return (await client.query("SELECT {n:Int64} + 1", parameters={"n": 41})).result_rows
        finally:
            await client.close()

    assert asyncio.run(work()) == [(42,)]


def test_decimals_are_exact(local_parts: Settings) -> None:
    with clickhouse_connect.get_client(**address(local_parts)) as client:
        assert client.query("SELECT toDecimal128('41.327119', 6)").result_rows == [(Decimal("41.327119"),)]


def test_an_empty_result_has_its_columns(local_parts: Settings) -> None:
    with clickhouse_connect.get_client(**address(local_parts)) as client:
        assert client.query("SELECT 1 AS one WHERE 0").column_names == ("one",)


def test_errors_have_clickhouses_codes(local_parts: Settings) -> None:
    with (
        clickhouse_connect.get_client(**address(local_parts)) as client,
        pytest.raises(DatabaseError, match="code: 60"),
    ):
        client.query("SELECT * FROM system.nothing_here")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT 1 INTO OUTFILE '/tmp/metering-must-not-exist'",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
    ],
)
def test_the_hosts_files_and_network_are_out_of_reach(local_parts: Settings, statement: str) -> None:
    with (
        clickhouse_connect.get_client(**address(local_parts)) as client,
        pytest.raises(DatabaseError, match="code: 497"),
    ):
        client.query(statement)


def test_a_failure_inside_an_answer_is_said_inside_it(local_parts: Settings) -> None:
    sql = "SELECT throwIf(number = 2000000) FROM numbers(3000000) FORMAT TSV"
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.post(local_parts.clickhouse(), data=sql, timeout=30)


def test_settings_of_one_request_do_not_reach_the_next(local_parts: Settings) -> None:
    url = local_parts.clickhouse()
    show = "SELECT value FROM system.settings WHERE name = 'max_threads'"
    first = requests.post(url, params={"max_threads": "1"}, data=show, timeout=10).text
    assert first.strip() == "1"
    assert requests.post(url, data=show, timeout=10).text != first


def test_a_token_is_stored_once(local_parts: Settings) -> None:
    with clickhouse_connect.get_client(**address(local_parts)) as client:
        client.command("CREATE DATABASE IF NOT EXISTS tokens")
        client.command(
            "CREATE OR REPLACE TABLE tokens.t (n Int64) ENGINE = MergeTree ORDER BY n"
            " SETTINGS non_replicated_deduplication_window = 100"
        )
        for n in (1, 2):
            client.insert(
                "t",
                [[n]],
                column_names=["n"],
                database="tokens",
                settings={"insert_deduplication_token": "t"},
            )
        assert client.query("SELECT n FROM tokens.t").result_rows == [(1,)]


def test_every_lz4_frame_of_a_body_is_read() -> None:
    body = lz4.frame.compress(b"one") + lz4.frame.compress(b"two")
    assert wire.decompress("lz4", body) == b"onetwo"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4", ""])
def test_answers_can_be_read_back(encoding: str) -> None:
    codec = wire.compressor(encoding)
    packed = codec.compress(b"a" * 1000) + codec.compress(b"b") + codec.flush()
    assert wire.decompress(encoding, packed) == b"a" * 1000 + b"b"


def test_gzip_is_the_usual_one() -> None:
    codec = wire.compressor("gzip")
    assert gzip.decompress(codec.compress(b"x") + codec.flush()) == b"x"
