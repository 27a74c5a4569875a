-- The audit follows corrections: an event that was voided counts no more, one that was amended counts with its new data.

-- The first copy of each event that was not refused, corrections among them.
CREATE OR REPLACE VIEW audit_first_copies AS
SELECT
    customer, source, id,
    argMin((e.type, e.time, e.data, e.k_partition, e.k_offset, e.k_index), (e.k_partition, e.k_offset, e.k_index)) AS kept,
    tupleElement(kept, 1) AS type, tupleElement(kept, 2) AS time, tupleElement(kept, 3) AS data,
    (tupleElement(kept, 4), tupleElement(kept, 5), tupleElement(kept, 6)) AS place
FROM events_current AS e
LEFT ANTI JOIN rejected_current AS r
    ON e.k_topic = r.k_topic AND e.k_partition = r.k_partition AND e.k_offset = r.k_offset AND e.k_index = r.k_index
GROUP BY customer, source, id;

-- What was done to an event last.
CREATE OR REPLACE VIEW audit_amended AS
SELECT
    customer,
    JSONExtractString(data, 'event', 'source') AS source,
    JSONExtractString(data, 'event', 'id') AS id,
    argMax((type = 'metering.void', JSONExtractRaw(data, 'instead')), place) AS last,
    tupleElement(last, 1) AS is_void, tupleElement(last, 2) AS instead,
    count() AS corrections
FROM audit_first_copies
WHERE type IN ('metering.void', 'metering.amend')
GROUP BY customer, source, id;

CREATE OR REPLACE VIEW audit_accepted AS
SELECT
    f.customer AS customer, f.source AS source, f.id AS id, f.type AS type, f.time AS time,
    if(a.corrections > 0, a.instead, f.data) AS data
FROM (SELECT * FROM audit_first_copies WHERE NOT startsWith(type, 'metering.')) AS f
LEFT JOIN audit_amended AS a ON a.customer = f.customer AND a.source = f.source AND a.id = f.id
WHERE NOT (a.corrections > 0 AND a.is_void);

-- A total that every event has left needs no event to explain it.
CREATE OR REPLACE VIEW audit_hourly_differences AS
SELECT
    formatDateTime(hour, '%Y-%m') AS period, customer, meter, hour, dimensions,
    b.quantity AS in_books, a.quantity AS expected, b.events AS events_in_books, a.events AS events_expected
FROM audit_hourly AS a
FULL OUTER JOIN (
    SELECT customer, meter, hour, mapSort(JSONExtract(dimensions, 'Map(String, String)')) AS dimensions,
        toDecimal256(quantity, 6) AS quantity, events
    FROM hourly_current
) AS b USING (customer, meter, hour, dimensions)
WHERE in_books != expected OR events_in_books != events_expected;
