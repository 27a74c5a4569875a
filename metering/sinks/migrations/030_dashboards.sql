-- What finance and support read on dashboards. Amounts stay Decimals, and nothing in here adds up two currencies.

-- Each charge with the customer's name and plan as the catalog has them now; a customer that it no longer has keeps the id.
CREATE OR REPLACE VIEW revenue_rows AS
SELECT
    c.customer AS customer, if(k.name = '', c.customer, k.name) AS name, if(k.plan = '', 'no plan', k.plan) AS plan,
    c.currency AS currency, c.period AS period, c.price AS price, c.meter AS meter, c.line AS line, c.card AS card,
    c.card_version AS card_version, c.corrects AS corrects, c.hour AS hour, c.quantity AS quantity, c.events AS events,
    c.amount AS amount
FROM charges_current AS c
LEFT JOIN (SELECT customer, name, plan FROM catalog_customers_current) AS k ON k.customer = c.customer;

-- What each customer was charged in each billing period. Recurring is what a period costs whatever is used: flat fees, and
-- what is added to reach a minimum commitment. All the rest (usage, shares, discounts, caps, adjustments) is in the total only.
CREATE OR REPLACE VIEW customer_months AS
SELECT
    customer, currency, period, toDate(concat(toString(period), '-01')) AS month,
    sumIf(amount, line IN ('flat', 'true_up')) AS recurring, sum(amount) AS total
FROM charges_current
GROUP BY customer, currency, period;

-- A customer's month beside the one before. The month behind the last one is there too, with a total of zero, unless it
-- lies behind the newest month of the books, or is not over yet: nobody is lost before the month has ended.
CREATE OR REPLACE VIEW customer_changes AS
WITH (SELECT max(toDate(concat(toString(period), '-01'))) FROM charges) AS newest
SELECT
    m.currency AS currency, m.customer AS customer, m.month AS month, m.total AS total, m.before AS before, f.first AS first,
    multiIf(before = 0 AND month = first, 'new', before = 0, 'back', total = 0, 'lost', total > before, 'grew',
        total < before, 'shrank', 'same') AS change
FROM (
    SELECT currency, customer, month, sum(now_charged) AS total, sum(charged_before) AS before
    FROM (
        SELECT currency, customer, month, total AS now_charged, toDecimal128(0, 6) AS charged_before
        FROM customer_months WHERE total > 0
        UNION ALL
        SELECT currency, customer, addMonths(month, 1) AS month, toDecimal128(0, 6) AS now_charged, total AS charged_before
        FROM customer_months WHERE total > 0
    )
    GROUP BY currency, customer, month
) AS m
INNER JOIN (
    SELECT currency, customer, min(month) AS first FROM customer_months WHERE total > 0 GROUP BY currency, customer
) AS f ON f.currency = m.currency AND f.customer = m.customer
WHERE m.month <= newest AND (m.total > 0 OR addMonths(m.month, 1) <= toDate(now('UTC')));

-- What has to be true before a billing period is done, one row a check; `missing` is 0 when it is.
CREATE OR REPLACE VIEW close_checklist AS
WITH periods AS (SELECT DISTINCT period FROM charges UNION DISTINCT SELECT DISTINCT period FROM period_closes)
SELECT p.period AS period, 1 AS step, 'Usage of the period has arrived' AS title, w.behind AS missing, '' AS who
FROM periods AS p
LEFT JOIN (
    SELECT n.period AS period, countIf(g.watermark < addMonths(toDateTime(concat(n.period, '-01 00:00:00'), 'UTC'), 1)) AS behind
    FROM periods AS n CROSS JOIN (SELECT watermark FROM progress_current WHERE fold = 'meter') AS g
    GROUP BY period
) AS w ON w.period = p.period
UNION ALL
SELECT p.period, 2, 'Every customer has closed', countIf(u.customer != ''), arrayStringConcat(arraySort(groupUniqArrayIf(5)(u.customer, u.customer != '')), ', ')
FROM periods AS p
LEFT JOIN (
    SELECT c.period AS period, c.customer AS customer
    FROM (SELECT DISTINCT period, customer FROM charges_current) AS c
    LEFT ANTI JOIN (SELECT period, customer FROM period_closes_current) AS d ON d.period = c.period AND d.customer = c.customer
) AS u ON u.period = p.period
GROUP BY p.period
UNION ALL
SELECT p.period, 3, 'The books agree with each close', countIf(x.customer != ''), arrayStringConcat(arraySort(groupUniqArrayIf(5)(x.customer, x.customer != '')), ', ')
FROM periods AS p
LEFT JOIN (SELECT period, customer FROM close_check WHERE rows_closed != rows_here OR amount_closed != amount_here) AS x
    ON x.period = p.period
GROUP BY p.period
UNION ALL
SELECT p.period, 4, 'All usage has a price', countIf(e.customer != ''), arrayStringConcat(arraySort(groupUniqArrayIf(5)(e.customer, e.customer != '')), ', ')
FROM periods AS p
LEFT JOIN (SELECT period, customer FROM rating_errors_current) AS e ON e.period = p.period
GROUP BY p.period
UNION ALL
SELECT p.period, 5, 'No late usage waits for a decision', countIf(l.customer != ''), arrayStringConcat(arraySort(groupUniqArrayIf(5)(l.customer, l.customer != '')), ', ')
FROM periods AS p
LEFT JOIN (SELECT period, customer FROM late_waiting) AS l ON l.period = p.period
GROUP BY p.period
UNION ALL
SELECT p.period, 6, 'No dead letter is open', countIf(r.reason != ''), arrayStringConcat(arraySort(groupUniqArrayIf(5)(r.reason, r.reason != '')), ', ')
FROM periods AS p
LEFT JOIN (SELECT formatDateTime(appended, '%Y-%m') AS period, reason FROM rejected_open) AS r ON r.period = p.period
GROUP BY p.period
UNION ALL
SELECT p.period, 7, 'The parts of each charge add up', countIf(a.customer != ''), arrayStringConcat(arraySort(groupUniqArrayIf(5)(a.customer, a.customer != '')), ', ')
FROM periods AS p
LEFT JOIN (SELECT period, customer FROM audit_unexplained) AS a ON a.period = p.period
GROUP BY p.period
UNION ALL
SELECT p.period, 8, 'Every close is invoiced or carried on', countIf(i.customer != ''),
    arrayStringConcat(arraySort(groupUniqArrayIf(5)(i.customer, i.customer != '')), ', ')
FROM periods AS p
LEFT JOIN (
    SELECT c.period AS period, c.customer AS customer
    FROM (SELECT period, customer FROM period_closes_current) AS c
    LEFT ANTI JOIN (
        SELECT period, customer FROM billing_invoices_current WHERE state IN ('finalized', 'carried', 'dropped')
    ) AS d ON d.period = c.period AND d.customer = c.customer
) AS i ON i.period = p.period
GROUP BY p.period;
