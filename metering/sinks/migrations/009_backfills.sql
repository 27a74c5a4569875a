-- Backfills: which one brought an event, what each one did to which event, and whether all of it has arrived.

ALTER TABLE events ADD COLUMN IF NOT EXISTS backfill LowCardinality(String) DEFAULT '';

CREATE OR REPLACE VIEW events_current AS
SELECT * FROM events FINAL SETTINGS do_not_merge_across_partitions_select_final = 1;

-- What was done to an event last; a restored one counts again, with the data that the restoration carries.
CREATE OR REPLACE VIEW audit_amended AS
SELECT
    customer,
    JSONExtractString(data, 'event', 'source') AS source,
    JSONExtractString(data, 'event', 'id') AS id,
    argMax((type = 'metering.void', JSONExtractRaw(data, 'instead')), place) AS last,
    tupleElement(last, 1) AS is_void, tupleElement(last, 2) AS instead,
    count() AS corrections
FROM audit_first_copies
WHERE type IN ('metering.void', 'metering.amend', 'metering.restore')
GROUP BY customer, source, id;

-- Each correction that was accepted: what it did to which event (id, source, time), who, why, when, and for which backfill.
CREATE OR REPLACE VIEW corrections_current AS
SELECT
    customer, splitByChar('.', kind)[2] AS what, JSONExtractString(said, 'event', 'source') AS event_source,
    JSONExtractString(said, 'event', 'id') AS event_id,
    if(
        JSONType(said, 'event', 'time') = 'String',
        parseDateTime64BestEffortOrZero(JSONExtractString(said, 'event', 'time'), 3, 'UTC'),
        fromUnixTimestamp64Milli(JSONExtractInt(said, 'event', 'time'), 'UTC')
    ) AS event_time,
    JSONExtractString(said, 'actor') AS actor, JSONExtractString(said, 'reason') AS reason, at AS corrected,
    JSONExtractString(said, 'backfill') AS backfill, JSONExtractString(said, 'step') AS step, correction
FROM (
    SELECT
        customer, source, id AS correction,
        argMin((type, data, appended), (k_partition, k_offset, k_index)) AS kept,
        tupleElement(kept, 1) AS kind, tupleElement(kept, 2) AS said, tupleElement(kept, 3) AS at
    FROM (SELECT * FROM events_current WHERE type IN ('metering.void', 'metering.amend', 'metering.restore')) AS e
    LEFT ANTI JOIN rejected_current AS r
        ON e.k_topic = r.k_topic AND e.k_partition = r.k_partition AND e.k_offset = r.k_offset AND e.k_index = r.k_index
    GROUP BY customer, source, correction
);

-- Each step of a backfill for each customer: who, why, when, and how many operations were announced.
CREATE OR REPLACE VIEW backfill_steps AS
SELECT
    JSONExtractString(said, 'backfill') AS backfill, JSONExtractString(said, 'step') AS step, customer,
    JSONExtractString(said, 'mode') AS mode, JSONExtractString(said, 'file') AS file,
    JSONExtractString(said, 'digest') AS digest, JSONExtractRaw(said, 'scope') AS scope,
    JSONExtractString(said, 'actor') AS actor, JSONExtractString(said, 'reason') AS reason, at AS made,
    JSONExtractUInt(said, 'add') AS adds, JSONExtractUInt(said, 'void') AS voids,
    JSONExtractUInt(said, 'amend') AS amends, JSONExtractUInt(said, 'restore') AS restores
FROM (
    SELECT
        customer, source, id,
        argMin((data, time), (k_partition, k_offset, k_index)) AS kept,
        tupleElement(kept, 1) AS said, tupleElement(kept, 2) AS at
    FROM (SELECT * FROM events_current WHERE type = 'metering.backfill') AS e
    LEFT ANTI JOIN rejected_current AS r
        ON e.k_topic = r.k_topic AND e.k_partition = r.k_partition AND e.k_offset = r.k_offset AND e.k_index = r.k_index
    GROUP BY customer, source, id
);

-- Events that a backfill brought and that were not refused; a copy that came second is among them.
CREATE OR REPLACE VIEW backfilled_events AS
SELECT e.customer AS customer, e.backfill AS backfill, e.source AS event_source, e.id AS event_id, any(e.time) AS event_time
FROM (SELECT * FROM events_current WHERE backfill != '' AND NOT startsWith(type, 'metering.')) AS e
LEFT ANTI JOIN rejected_current AS r
    ON e.k_topic = r.k_topic AND e.k_partition = r.k_partition AND e.k_offset = r.k_offset AND e.k_index = r.k_index
GROUP BY customer, backfill, event_source, event_id;

-- The steps with what has arrived of them.
CREATE OR REPLACE VIEW backfills AS
SELECT
    s.backfill AS backfill, s.step AS step, s.customer AS customer, s.mode AS mode, s.file AS file, s.digest AS digest,
    s.scope AS scope, s.actor AS actor, s.reason AS reason, s.made AS made,
    s.adds AS adds, s.voids AS voids, s.amends AS amends, s.restores AS restores,
    adds + voids + amends + restores AS announced,
    least(s.adds, if(s.step = 'apply', b.events, 0)) + least(s.voids, c.void) + least(s.amends, c.amend)
        + least(s.restores, c.restore) AS arrived
FROM backfill_steps AS s
LEFT JOIN (
    SELECT customer, backfill, step, countIf(what = 'void') AS void, countIf(what = 'amend') AS amend,
        countIf(what = 'restore') AS restore
    FROM corrections_current WHERE backfill != '' GROUP BY customer, backfill, step
) AS c ON c.customer = s.customer AND c.backfill = s.backfill AND c.step = s.step
LEFT JOIN (
    SELECT customer, backfill, count() AS events FROM backfilled_events GROUP BY customer, backfill
) AS b ON b.customer = s.customer AND b.backfill = s.backfill;
