-- The audit: a second implementation of metering and rating, in SQL, over the archive. It shares no arithmetic with the
-- engine; the sink only writes down what each catalog revision says. All amounts here are whole numbers: quantities and
-- fees of 10^-6, unit prices, rates and conversions of 10^-12, percentages of 10^-6, exact amounts of 10^-36.

CREATE TABLE IF NOT EXISTS audit_meters (
    revision UInt32,
    meter String,
    event_type String,
    aggregation LowCardinality(String),
    value_path Array(String),
    filter_paths Array(Array(String)),
    filter_values Array(Array(String)),
    dimension_names Array(String),
    dimension_paths Array(Array(String)),
    starts DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree
ORDER BY (revision, meter)
SETTINGS non_replicated_deduplication_window = 10000;

-- A customer's agreement: which version applies from when; `window` is the last instant at which tiers began anew.
CREATE TABLE IF NOT EXISTS audit_spans (
    revision UInt32,
    customer String,
    account String,
    starts DateTime('UTC'),
    ends DateTime('UTC'),
    window DateTime('UTC'),
    card_version String,
    is_covered UInt8
) ENGINE = ReplacingMergeTree
ORDER BY (revision, customer, starts)
SETTINGS non_replicated_deduplication_window = 10000;

-- A usage price of a version. An open tier ends at 10^38; a limit of -1 is none; `*` in a cell takes any value.
CREATE TABLE IF NOT EXISTS audit_prices (
    revision UInt32,
    card_version String,
    price String,
    model LowCardinality(String),
    scope LowCardinality(String),
    is_covered UInt8,
    meters Array(String),
    weights Array(Int256),
    where_names Array(String),
    where_values Array(Array(String)),
    cell_dimensions Array(String),
    cells Array(Array(String)),
    tier_cells Array(UInt16),
    tier_froms Array(Int256),
    tier_tos Array(Int256),
    tier_prices Array(Int256),
    tier_fees Array(Int256),
    package Int256,
    min_packages Int256,
    included Int256,
    event_fee Int256,
    conversion Int256,
    maximum Int256,
    percent_off Int256,
    amount_off Int256,
    cap Int256
) ENGINE = ReplacingMergeTree
ORDER BY (revision, card_version, price)
SETTINGS non_replicated_deduplication_window = 10000;

-- The first copy of each event that was not refused.
CREATE OR REPLACE VIEW audit_accepted AS
SELECT
    customer, source, id,
    argMin((e.type, e.time, e.data), (e.k_partition, e.k_offset, e.k_index)) AS kept,
    tupleElement(kept, 1) AS type, tupleElement(kept, 2) AS time, tupleElement(kept, 3) AS data
FROM events_current AS e
LEFT ANTI JOIN rejected_current AS r
    ON e.k_topic = r.k_topic AND e.k_partition = r.k_partition AND e.k_offset = r.k_offset AND e.k_index = r.k_index
GROUP BY customer, source, id;

-- What the meters in force make of the archive, hour by hour.
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
        kind = 'latest', argMax(number, (time, id)),
        sum(number)
    ) AS quantity,
    count() AS events
FROM (
    SELECT
        e.customer AS customer, e.id AS id, e.time AS time, m.meter AS meter, m.aggregation AS aggregation,
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

-- Hourly totals that differ from the archive.
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

-- Usage with the version and price that read it: closed periods by the revision that closed them, open ones by the latest.
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
    LEFT JOIN (SELECT customer, period, version FROM period_closes_current) AS c
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

-- Charges of the same hours, by F(after) - F(before).
CREATE OR REPLACE VIEW audit_charges AS
SELECT
    r.customer AS customer, r.period AS period, r.price AS price, r.hour AS hour,
    p.model IN ('volume', 'stairstep') AS is_whole,
    arrayMap(
        used -> arraySum(
            (place, micro) -> if(
                p.model = 'percentage',
                micro * p.tier_prices[1] + p.event_fee * used.3 * toInt256(1000000000000),
                arraySum(
                    (tier_cell, low, high, unit_price, fee) -> if(
                        tier_cell = place AND micro - p.included > low AND (NOT is_whole OR micro - p.included <= high),
                        multiIf(
                            p.package = 0, if(is_whole, micro - p.included, least(micro - p.included, high) - low),
                            greatest(
                                intDiv(if(is_whole, micro - p.included, least(micro - p.included, high) - low) + p.package - 1, p.package),
                                p.min_packages
                            ) * 1000000
                        ) * unit_price + fee * toInt256(1000000000000),
                        toInt256(0)
                    ),
                    p.tier_cells, p.tier_froms, p.tier_tos, p.tier_prices, p.tier_fees
                )
            ),
            used.1, used.2
        ),
        [(mapKeys(r.before), mapValues(r.before), r.events_before), (mapKeys(r.after), mapValues(r.after), r.events_after)]
    ) AS gross,
    arrayMap(g -> g * p.conversion, gross) AS converted,
    arrayMap(g -> if(p.maximum < 0, g, least(g, p.maximum * toInt256('1000000000000000000000000'))), converted) AS limited,
    arrayMap(g -> g * (1000000 - p.percent_off), limited) AS after_percent,
    arrayMap(g -> greatest(g - p.amount_off * toInt256('1000000000000000000000000000000'), toInt256(0)), after_percent) AS after_amount,
    arrayMap(g -> if(p.cap < 0, g, least(g, p.cap * toInt256('1000000000000000000000000000000'))), after_amount) AS capped,
    arrayMap(g -> intDiv(g + toInt256('500000000000000000000000000000'), toInt256('1000000000000000000000000000000')), capped) AS rounded,
    toDecimal256(rounded[2] - rounded[1], 6) / toDecimal256(1000000, 0) AS amount
FROM (
    SELECT
        account, customer, period, price, hour, revision, card_version,
        sumMap(used) OVER (PARTITION BY account, period, price, window ORDER BY hour, customer ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS after,
        sumMap(used) OVER (PARTITION BY account, period, price, window ORDER BY hour, customer ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before,
        sum(hour_events) OVER (PARTITION BY account, period, price, window ORDER BY hour, customer ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS events_after,
        sum(hour_events) OVER (PARTITION BY account, period, price, window ORDER BY hour, customer ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS events_before
    FROM (
        SELECT account, customer, period, price, hour, revision, card_version, window,
            sumMap(map(toUInt16(cell), micro)) AS used, sum(toInt256(events)) AS hour_events
        FROM audit_priced_usage
        GROUP BY account, customer, period, price, hour, revision, card_version, window
    )
) AS r
INNER JOIN (SELECT * FROM audit_prices FINAL) AS p
    ON p.revision = r.revision AND p.card_version = r.card_version AND p.price = r.price;

-- The charges that the audit speaks of.
CREATE OR REPLACE VIEW audit_covered_charges AS
SELECT c.* FROM charges_current AS c
INNER JOIN (
    SELECT DISTINCT customer, period, price, hour FROM audit_priced_usage
) AS a ON a.customer = c.customer AND a.period = c.period AND a.price = c.price AND a.hour = c.hour
WHERE c.line = 'usage';

CREATE OR REPLACE VIEW audit_charge_differences AS
SELECT
    period, customer, price, hour, toDecimal256(b.amount, 6) AS in_books, a.amount AS expected
FROM (SELECT customer, period, price, hour, amount FROM audit_charges) AS a
LEFT JOIN (SELECT customer, period, price, hour, amount FROM charges_current WHERE line = 'usage') AS b
    USING (customer, period, price, hour)
WHERE in_books != expected;

-- Rows whose parts do not explain them, whatever their model.
CREATE OR REPLACE VIEW audit_unexplained AS
SELECT
    period, customer, price, hour, line, amount,
    arraySum(arrayMap(x -> toDecimal256(x, 36), slice_amounts)) + arraySum(effect_amounts) + rounding AS explained
FROM charges_current
WHERE explained != toDecimal256(amount, 36) OR (line = 'usage' AND quantity_after - quantity_before != quantity);
