-- What the meters in force make of the archive, hour by hour. Of values at one time the latest is that of the
-- highest id, then source, as in the stream.
CREATE OR REPLACE VIEW audit_hourly AS
WITH
    (SELECT max(revision) FROM catalog) AS latest,
    (doc, path) -> arrayFold((found, step) -> JSONExtractRaw(found, step), path, doc) AS raw_at,
    raw -> if(startsWith(raw, '"'), JSONExtractString(concat('[', raw, ']'), 1), raw) AS text_of
SELECT
    customer, meter, hour, dimensions, any(aggregation) AS kind,
    multiIf(
        kind = 'count', toDecimal256(count(), 6),
        kind = 'unique', toDecimal256(uniqExact(value), 6),
        kind = 'max', max(number),
        kind = 'min', min(number),
        kind = 'latest', argMax(number, (time, id, source)),
        sum(number)
    ) AS quantity,
    count() AS events
FROM (
    SELECT
        e.customer AS customer, e.id AS id, e.source AS source, e.time AS time, m.meter AS meter, m.aggregation AS aggregation,
        toStartOfHour(toDateTime(e.time, 'UTC')) AS hour,
        mapSort(mapFromArrays(m.dimension_names, arrayMap(p -> text_of(raw_at(e.data, p)), m.dimension_paths))) AS dimensions,
        if(empty(m.value_path), '', text_of(raw_at(e.data, m.value_path))) AS value,
        assumeNotNull(toDecimal256OrZero(value, 6)) AS number
    FROM audit_accepted AS e
    INNER JOIN (SELECT * FROM audit_meters FINAL) AS m ON e.type = m.event_type
    WHERE m.revision = latest AND e.time >= m.starts
        AND arrayAll((p, wanted) -> has(wanted, text_of(raw_at(e.data, p))), m.filter_paths, m.filter_values)
)
GROUP BY customer, meter, hour, dimensions;
