-- Late usage of a closed period stands in an adjustment, not in the hours of the period: an adjusted price is compared by
-- its sum. And a charge whose hour has no usage at all is a difference too.

CREATE OR REPLACE VIEW audit_adjusted_prices AS
SELECT customer, corrects AS period, splitByChar('@', price)[1] AS price, sum(toDecimal256(amount, 6)) AS adjusted
FROM charges_current
WHERE corrects != ''
GROUP BY customer, period, price;

CREATE OR REPLACE VIEW audit_charge_differences AS
SELECT
    a.period AS period, a.customer AS customer, a.price AS price, a.hour AS hour,
    toDecimal256(b.amount, 6) AS in_books, a.amount AS expected
FROM (SELECT customer, period, price, hour, amount FROM audit_charges) AS a
LEFT ANTI JOIN audit_adjusted_prices AS j ON j.customer = a.customer AND j.period = a.period AND j.price = a.price
LEFT JOIN (SELECT customer, period, price, hour, amount FROM charges_current WHERE line = 'usage') AS b
    ON b.customer = a.customer AND b.period = a.period AND b.price = a.price AND b.hour = a.hour
WHERE in_books != expected

UNION ALL

SELECT
    j.period AS period, j.customer AS customer, j.price AS price,
    toDateTime(concat(j.period, '-01 00:00:00'), 'UTC') AS hour,
    j.adjusted + b.amount AS in_books, a.amount AS expected
FROM audit_adjusted_prices AS j
INNER JOIN (SELECT customer, period, price, sum(amount) AS amount FROM audit_charges GROUP BY customer, period, price) AS a
    ON a.customer = j.customer AND a.period = j.period AND a.price = j.price
LEFT JOIN (
    SELECT customer, period, price, sum(toDecimal256(amount, 6)) AS amount FROM charges_current
    WHERE line = 'usage' GROUP BY customer, period, price
) AS b ON b.customer = j.customer AND b.period = j.period AND b.price = j.price
WHERE in_books != expected

UNION ALL

SELECT c.period AS period, c.customer AS customer, c.price AS price, c.hour AS hour, toDecimal256(c.amount, 6) AS in_books,
    toDecimal256(0, 6) AS expected
FROM (SELECT *, arrayJoin(splitByChar('+', meter)) AS one FROM charges_current WHERE line = 'usage') AS c
LEFT JOIN (SELECT customer, hour, meter, 1 AS used FROM hourly_current GROUP BY customer, hour, meter) AS h
    ON h.customer = c.customer AND h.hour = c.hour AND h.meter = c.one
GROUP BY c.period, c.customer, c.price, c.hour, c.amount
HAVING max(h.used) = 0;
