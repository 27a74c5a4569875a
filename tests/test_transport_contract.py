"""The private names of aiokafka and Faust that transport.py uses, and the shapes it relies on."""

import inspect

import aiokafka
import faust
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage

from metering import transport


def test_the_versions_are_the_ones_it_was_written_for() -> None:
    assert aiokafka.__version__.startswith("0.14.")
    assert faust.__version__.startswith("0.15.")


def test_the_fetcher_makes_partition_records_by_their_module_name() -> None:
    source = inspect.getsource(fetcher.Fetcher)
    assert "PartitionRecords(" in source
    assert fetcher.PartitionRecords is transport.ChunkRecords


def test_partition_records_keep_what_the_chunks_are_made_from() -> None:
    source = inspect.getsource(fetcher.PartitionRecords.__mro__[1].__init__)
    for name in ("_tp", "_records", "_check_crcs", "next_fetch_offset", "_records_iterator"):
        assert f"self.{name} = " in source, name


def test_a_record_batch_names_its_bounds() -> None:
    for name in ("base_offset", "next_offset", "is_control_batch", "max_timestamp", "validate_crc"):
        assert hasattr(DefaultRecordBatch, name), name


def test_the_consumer_is_drained_and_sought_where_we_step_in() -> None:
    ours = ("_drain_messages", "perform_seek", "_getmany", "_get_active_partitions", "subscribe")
    for name in (*ours, "pause_partitions", "resume_partitions", "wait_for_stopped_flow"):
        assert hasattr(driver.Consumer, name), name
    assert "_drain_messages" in inspect.getsource(faust_consumer.Fetcher)


def test_the_consumer_thread_seeks_and_commits() -> None:
    for name in ("seek_wait", "commit"):
        assert inspect.iscoroutinefunction(getattr(driver.AIOKafkaConsumerThread, name)), name


def test_a_message_takes_its_fields_in_this_order() -> None:
    names = list(inspect.signature(ConsumerMessage.__init__).parameters)[1:13]
    assert names == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "timestamp_type",
        "headers",
        "key",
        "value",
        "checksum",
        "serialized_key_size",
        "serialized_value_size",
        "tp",
    ]
