-- What people did about dead letters. A letter stays; each action is a row beside it.

CREATE TABLE IF NOT EXISTS rejected_actions (
    k_topic LowCardinality(String),
    k_partition UInt16,
    k_offset UInt64,
    k_index Int32,
    acted DateTime64(3, 'UTC'),
    action LowCardinality(String),
    actor String,
    reason String CODEC(ZSTD(3)),
    sent_partition Int32,
    sent_offset Int64,
    version UInt128
) ENGINE = ReplacingMergeTree(version)
ORDER BY (k_topic, k_partition, k_offset, k_index, acted, action, actor)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE OR REPLACE VIEW rejected_actions_current AS SELECT * FROM rejected_actions FINAL;

-- Every letter with its state. What was sent again is retried, whatever was decided before.
CREATE OR REPLACE VIEW rejected_letters AS
SELECT r.*, multiIf(a.retries > 0, 'retried', a.actions > 0, 'discarded', 'open') AS state
FROM rejected_current AS r
LEFT JOIN (
    SELECT k_topic, k_partition, k_offset, k_index, count() AS actions, countIf(action = 'retried') AS retries
    FROM rejected_actions_current
    GROUP BY k_topic, k_partition, k_offset, k_index
) AS a USING (k_topic, k_partition, k_offset, k_index);

-- What waits for a person. A retried event that was refused again is a new letter at a new place, and open.
CREATE OR REPLACE VIEW rejected_open AS SELECT * EXCEPT state FROM rejected_letters WHERE state = 'open';

-- An event is asked for by its id, often without its customer.
ALTER TABLE events ADD INDEX IF NOT EXISTS by_id id TYPE bloom_filter(0.01) GRANULARITY 1;
