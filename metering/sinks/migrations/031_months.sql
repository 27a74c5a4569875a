-- Dashboards over many charges: each view reads the charges once, and only those of the periods that were asked for.

-- Charges are sorted by customer; a part that has nothing of a period is left alone. A period is of the key, so all
-- versions of a row stand in or out together.
ALTER TABLE charges ADD INDEX IF NOT EXISTS by_period period TYPE set(0) GRANULARITY 1;
ALTER TABLE charges MATERIALIZE INDEX by_period;

-- A customer's month beside the one before. The month behind the last one is there too, with a total of zero, unless it
-- lies behind the newest month of the books, or is not over yet: nobody is lost before the month has ended.
CREATE OR REPLACE VIEW customer_changes AS
WITH (SELECT max(toDate(concat(toString(period), '-01'))) FROM charges) AS newest
SELECT
    currency, customer, month, total, before, first,
    multiIf(before = 0 AND month = first, 'new', before = 0, 'back', total = 0, 'lost', total > before, 'grew',
        total < before, 'shrank', 'same') AS change
FROM (
    SELECT currency, customer, first, side.1 AS month, sum(side.2) AS total, sum(side.3) AS before
    FROM (
        SELECT
            currency, customer, min(month) OVER (PARTITION BY currency, customer) AS first,
            arrayJoin([
                (month, total, toDecimal128(0, 6)), (addMonths(month, 1), toDecimal128(0, 6), total)
            ]) AS side
        FROM customer_months WHERE total > 0
    )
    GROUP BY currency, customer, first, month
)
WHERE month <= newest AND (total > 0 OR addMonths(month, 1) <= toDate(now('UTC')));

-- What has to be true before a billing period is done, one row a check; `missing` is 0 when it is.
CREATE OR REPLACE VIEW close_checklist AS
WITH [
    'Usage of the period has arrived', 'Every customer has closed', 'The books agree with each close',
    'All usage has a price', 'No late usage waits for a decision', 'No dead letter is open',
    'The parts of each charge add up', 'Every close is invoiced or carried on'
] AS titles
SELECT
    period, step, titles[step] AS title, sum(behind) + countIf(found != '') AS missing,
    arrayStringConcat(arraySort(groupUniqArrayIf(5)(found, found != '')), ', ') AS who
FROM (
    -- Each step of each period of the books, whether anything is found or not.
    SELECT period, arrayJoin(range(1, 9)) AS step, '' AS found, 0 AS behind, 1 AS known
    FROM (SELECT period FROM charges GROUP BY period UNION DISTINCT SELECT period FROM period_closes GROUP BY period)
    UNION ALL
    SELECT n.period, 1, '', countIf(g.watermark < addMonths(toDateTime(concat(n.period, '-01 00:00:00'), 'UTC'), 1)), 0
    FROM (SELECT period FROM charges GROUP BY period UNION DISTINCT SELECT period FROM period_closes GROUP BY period) AS n
    CROSS JOIN (SELECT watermark FROM progress_current WHERE fold = 'meter') AS g
    GROUP BY n.period
    UNION ALL
    SELECT period, 2, customer, 0, 0
    FROM (SELECT period, customer FROM charges_current GROUP BY period, customer)
    WHERE (period, customer) NOT IN (SELECT period, customer FROM period_closes_current)
    UNION ALL
    SELECT period, 3, customer, 0, 0 FROM close_check WHERE rows_closed != rows_here OR amount_closed != amount_here
    UNION ALL
    SELECT period, 4, customer, 0, 0 FROM rating_errors_current
    UNION ALL
    SELECT period, 5, customer, 0, 0 FROM late_waiting
    UNION ALL
    SELECT formatDateTime(appended, '%Y-%m'), 6, reason, 0, 0 FROM rejected_open
    UNION ALL
    SELECT period, 7, customer, 0, 0 FROM audit_unexplained
    UNION ALL
    SELECT period, 8, customer, 0, 0 FROM period_closes_current
    WHERE (period, customer) NOT IN (
        SELECT period, customer FROM billing_invoices_current WHERE state IN ('finalized', 'carried', 'dropped')
    )
)
GROUP BY period, step
HAVING max(known) = 1;
