-- What happened to quotas, with who and why; the version is (epoch, sequence), and an id is the same on every replay.

CREATE TABLE IF NOT EXISTS quota_events
(
    id String,
    event LowCardinality(String),
    account String,
    scope String,
    meter LowCardinality(String),
    limit_id LowCardinality(String),
    limit_version String,
    window_start DateTime64(3, 'UTC'),
    happened DateTime64(3, 'UTC'),
    percent UInt32,
    posted Decimal(38, 6),
    amount Decimal(38, 6),
    subject String,
    quantity Decimal(38, 6),
    actor String,
    reason String,
    detail String,
    version UInt128
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (account, scope, limit_id, id);

-- Grants and limits that people set at run time, one row a fact: nothing is overwritten by a later one.
CREATE TABLE IF NOT EXISTS quota_facts
(
    k_offset UInt64,
    made DateTime64(3, 'UTC'),
    kind LowCardinality(String),
    scope String,
    limit_id LowCardinality(String),
    grant_id String,
    amount Nullable(Decimal(38, 6)),
    starts DateTime64(3, 'UTC'),
    ends DateTime64(3, 'UTC'),
    is_withdrawn Bool,
    actor String,
    reason String
)
ENGINE = ReplacingMergeTree
ORDER BY k_offset;

CREATE OR REPLACE VIEW quota_events_current AS SELECT * FROM quota_events FINAL;
CREATE OR REPLACE VIEW quota_facts_current AS SELECT * FROM quota_facts FINAL;
