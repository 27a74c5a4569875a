-- Late usage by the policy of its meter: letters that wait for an approval, approvals, and closes with their revisions.

-- A restatement is a close of its own, beside the one it follows: nothing is replaced.
ALTER TABLE period_closes
    ADD COLUMN IF NOT EXISTS revision UInt32,
    MODIFY ORDER BY (customer, period, revision);

ALTER TABLE period_closes
    ADD COLUMN IF NOT EXISTS approval_events Array(String),
    ADD COLUMN IF NOT EXISTS approval_sources Array(String),
    ADD COLUMN IF NOT EXISTS approval_actors Array(String),
    ADD COLUMN IF NOT EXISTS approval_reasons Array(String),
    ADD COLUMN IF NOT EXISTS approval_times Array(DateTime64(3, 'UTC'));

CREATE OR REPLACE VIEW period_closes_history AS SELECT * FROM period_closes FINAL;

CREATE OR REPLACE VIEW period_closes_current AS
SELECT * FROM period_closes FINAL ORDER BY revision DESC LIMIT 1 BY customer, period;

CREATE OR REPLACE VIEW period_first_closes AS
SELECT * FROM period_closes FINAL ORDER BY revision LIMIT 1 BY customer, period;

CREATE OR REPLACE VIEW rejected_letters AS
SELECT r.*, multiIf(a.retries > 0, 'retried', a.approvals > 0, 'approved', a.actions > 0, 'discarded', 'open') AS state
FROM rejected_current AS r
LEFT JOIN (
    SELECT k_topic, k_partition, k_offset, k_index, count() AS actions,
        countIf(action = 'retried') AS retries, countIf(action = 'approved') AS approvals
    FROM rejected_actions_current
    GROUP BY k_topic, k_partition, k_offset, k_index
) AS a USING (k_topic, k_partition, k_offset, k_index);

-- The approvals that were not refused, by the event that they let count.
CREATE OR REPLACE VIEW late_approvals AS
SELECT
    customer,
    JSONExtractString(data, 'event', 'source') AS source,
    JSONExtractString(data, 'event', 'id') AS id,
    count() AS approvals
FROM events_current AS e
LEFT ANTI JOIN rejected_current AS r
    ON e.k_topic = r.k_topic AND e.k_partition = r.k_partition AND e.k_offset = r.k_offset AND e.k_index = r.k_index
WHERE e.type = 'metering.approve'
GROUP BY customer, source, id;

-- Late usage that waits: for an approval to restate its closed period, or in quarantine.
CREATE OR REPLACE VIEW late_waiting AS
SELECT
    l.k_topic AS k_topic, l.k_partition AS k_partition, l.k_offset AS k_offset, l.k_index AS k_index,
    l.appended AS appended, if(l.reason = 'late_restatement', 'pending restatement', 'quarantined') AS waits,
    l.customer AS customer, e.source AS source, l.event_id AS event_id, l.event_type AS event_type,
    e.time AS time, formatDateTime(e.time, '%Y-%m') AS period, e.data AS data
FROM (
    SELECT * FROM rejected_letters
    WHERE state = 'open' AND reason IN ('late_restatement', 'late_quarantined')
) AS l
INNER JOIN events_current AS e
    ON e.k_topic = l.k_topic AND e.k_partition = l.k_partition AND e.k_offset = l.k_offset AND e.k_index = l.k_index
LEFT ANTI JOIN late_approvals AS a ON a.customer = l.customer AND a.source = e.source AND a.id = l.event_id;

-- The first copy of each event that was not refused, or that was approved later; corrections among them.
CREATE OR REPLACE VIEW audit_first_copies AS
SELECT
    customer, source, id,
    argMin((e.type, e.time, e.data, e.k_partition, e.k_offset, e.k_index), (e.k_partition, e.k_offset, e.k_index)) AS kept,
    tupleElement(kept, 1) AS type, tupleElement(kept, 2) AS time, tupleElement(kept, 3) AS data,
    (tupleElement(kept, 4), tupleElement(kept, 5), tupleElement(kept, 6)) AS place
FROM events_current AS e
LEFT JOIN (SELECT k_topic, k_partition, k_offset, k_index, reason FROM rejected_current) AS r
    ON e.k_topic = r.k_topic AND e.k_partition = r.k_partition AND e.k_offset = r.k_offset AND e.k_index = r.k_index
LEFT JOIN (SELECT customer AS of, source AS via, id AS name, approvals FROM late_approvals) AS a
    ON a.of = e.customer AND a.via = e.source AND a.name = e.id
WHERE r.reason = '' OR (a.approvals > 0 AND r.reason IN ('late_restatement', 'late_quarantined'))
GROUP BY customer, source, id;

-- Usage with the version and price that read it. A restated period is charged at the terms of its first close.
CREATE OR REPLACE VIEW audit_priced_usage AS
WITH (SELECT max(revision) FROM catalog) AS latest
SELECT
    u.customer AS customer, u.period AS period, u.hour AS hour, u.revision AS revision, u.events AS events,
    s.account AS account, s.card_version AS card_version, p.price AS price,
    intDiv(u.micro * p.weight, toInt256(1000000)) AS micro,
    multiIf(
        p.scope = 'hour', u.hour,
        p.scope = 'day', greatest(s.window, toStartOfDay(u.hour)),
        greatest(s.window, toDateTime(toStartOfMonth(u.hour), 'UTC'))
    ) AS window,
    arrayMap(
        c -> if(arrayAll((want, name) -> want = '*' OR want = u.dimensions[name], c, p.cell_dimensions), countEqual(c, '*'), 255),
        p.cells
    ) AS wildcards,
    if(empty(p.cells), 1, indexOf(wildcards, arrayMin(wildcards))) AS cell
FROM (
    SELECT
        h.customer AS customer, h.meter AS meter, h.hour AS hour, formatDateTime(h.hour, '%Y-%m') AS period,
        h.events AS events, JSONExtract(h.dimensions, 'Map(String, String)') AS dimensions,
        toInt256(toDecimal256(h.quantity, 6) * toDecimal256(1000000, 0)) AS micro,
        if(c.version = 0, latest, toUInt32(bitAnd(c.version, toUInt128(4294967295)))) AS revision
    FROM hourly_current AS h
    LEFT JOIN (SELECT customer, period, version FROM period_first_closes) AS c
        ON c.customer = h.customer AND c.period = formatDateTime(h.hour, '%Y-%m')
) AS u
ASOF INNER JOIN (SELECT * FROM audit_spans FINAL) AS s
    ON s.revision = u.revision AND s.customer = u.customer AND s.starts <= u.hour
INNER JOIN (
    SELECT *, meter, weight FROM (SELECT * FROM audit_prices FINAL) ARRAY JOIN meters AS meter, weights AS weight
) AS p ON p.revision = s.revision AND p.card_version = s.card_version AND p.meter = u.meter
WHERE u.hour < s.ends AND s.is_covered AND p.is_covered
    AND arrayAll((name, wanted) -> has(wanted, u.dimensions[name]), p.where_names, p.where_values)
    AND (empty(p.cells) OR arrayMin(wildcards) < 255);
