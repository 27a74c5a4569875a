-- The archive and the books. Every table replaces by a natural key, so replays, overlaps and second copies converge; the
-- version is a function of the input, so the newest content wins whatever order it arrives in. The insert tokens that the
-- window remembers only save merges.

-- Every copy of every event that can be read, duplicates and refused ones included.
CREATE TABLE IF NOT EXISTS events (
    customer String CODEC(ZSTD(1)),
    type LowCardinality(String),
    time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    id String CODEC(ZSTD(1)),
    source LowCardinality(String),
    data String CODEC(ZSTD(3)),
    k_topic LowCardinality(String),
    k_partition UInt16 CODEC(T64, ZSTD(1)),
    k_offset UInt64 CODEC(Delta(8), ZSTD(1)),
    k_index Int32 CODEC(T64, ZSTD(1)),
    appended DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
PRIMARY KEY (customer, type, toStartOfHour(time))
ORDER BY (customer, type, toStartOfHour(time), time, id, source, k_topic, k_partition, k_offset, k_index)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS hourly (
    customer String CODEC(ZSTD(1)),
    meter LowCardinality(String),
    hour DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    dimensions String CODEC(ZSTD(1)),
    quantity Decimal(38, 6) CODEC(ZSTD(1)),
    events UInt64 CODEC(T64, ZSTD(1)),
    late UInt64 CODEC(T64, ZSTD(1)),
    version UInt128 CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(hour)
ORDER BY (customer, meter, hour, dimensions)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS charges (
    customer String CODEC(ZSTD(1)),
    period LowCardinality(String),
    price LowCardinality(String),
    hour DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    meter LowCardinality(String),
    currency LowCardinality(String),
    quantity Decimal(38, 6) CODEC(ZSTD(1)),
    quantity_before Decimal(38, 6) CODEC(ZSTD(1)),
    quantity_after Decimal(38, 6) CODEC(ZSTD(1)),
    amount Decimal(38, 6) CODEC(ZSTD(1)),
    rounding Decimal(38, 18) CODEC(ZSTD(1)),
    card LowCardinality(String),
    card_version LowCardinality(String),
    events UInt64 CODEC(T64, ZSTD(1)),
    slice_tiers Array(UInt16) CODEC(ZSTD(1)),
    slice_units Array(Decimal(38, 6)) CODEC(ZSTD(1)),
    slice_unit_prices Array(Decimal(38, 12)) CODEC(ZSTD(1)),
    slice_flat_fees Array(Decimal(38, 6)) CODEC(ZSTD(1)),
    slice_amounts Array(Decimal(38, 18)) CODEC(ZSTD(1)),
    version UInt128 CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(hour)
ORDER BY (customer, period, price, hour)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS rating_errors (
    customer String,
    period LowCardinality(String),
    meter LowCardinality(String),
    hour DateTime('UTC'),
    quantity Decimal(38, 6),
    reason LowCardinality(String),
    detail String,
    version UInt128
) ENGINE = ReplacingMergeTree(version)
ORDER BY (customer, period, meter, hour)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS period_closes (
    customer String,
    period LowCardinality(String),
    currency LowCardinality(String),
    rows UInt64,
    errors UInt64,
    amount Decimal(38, 6),
    digest String,
    watermark DateTime64(3, 'UTC'),
    version UInt128
) ENGINE = ReplacingMergeTree(version)
ORDER BY (customer, period)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS rejected (
    k_topic LowCardinality(String),
    k_partition UInt16,
    k_offset UInt64,
    k_index Int32,
    appended DateTime64(3, 'UTC'),
    reason LowCardinality(String),
    detail String CODEC(ZSTD(3)),
    customer String,
    event_id String,
    event_type String,
    payload String CODEC(ZSTD(3)),
    version UInt128
) ENGINE = ReplacingMergeTree(version)
ORDER BY (k_topic, k_partition, k_offset, k_index)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS progress (
    fold LowCardinality(String),
    partition UInt16,
    next_offset UInt64,
    watermark DateTime64(3, 'UTC'),
    read UInt64,
    accepted UInt64,
    duplicates UInt64,
    rejected UInt64,
    late UInt64,
    catalog_revision UInt32,
    instance String,
    reported DateTime64(3, 'UTC'),
    version UInt128
) ENGINE = ReplacingMergeTree(version)
ORDER BY (fold, partition)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS catalog (
    revision UInt32,
    hash String,
    content String CODEC(ZSTD(3))
) ENGINE = ReplacingMergeTree
ORDER BY (revision)
SETTINGS non_replicated_deduplication_window = 10000;

CREATE TABLE IF NOT EXISTS catalog_customers (
    customer String,
    name String,
    plan LowCardinality(String),
    currency LowCardinality(String),
    stripe_customer String,
    revision UInt32
) ENGINE = ReplacingMergeTree(revision)
ORDER BY (customer)
SETTINGS non_replicated_deduplication_window = 10000;

-- Where each sink continues: a lost database has no positions, so everything is read again.
CREATE TABLE IF NOT EXISTS sink_progress (
    sink LowCardinality(String),
    k_topic LowCardinality(String),
    k_partition UInt16,
    next_offset UInt64
) ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (sink, k_topic, k_partition)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;
