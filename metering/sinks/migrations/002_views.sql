-- What people and billing read. FINAL stands in here, so that nobody can forget it; merging within partitions is right
-- because each partition key is a function of the sort key.

CREATE OR REPLACE VIEW events_current AS
SELECT * FROM events FINAL SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW hourly_current AS
SELECT * FROM hourly FINAL SETTINGS do_not_merge_across_partitions_select_final = 1;

-- A row without a card belongs to a price that no longer applies: it only takes back what stood there.
CREATE OR REPLACE VIEW charges_current AS
SELECT * FROM charges FINAL WHERE card != '' SETTINGS do_not_merge_across_partitions_select_final = 1;

-- An error without a reason was withdrawn: the usage is priced by now.
CREATE OR REPLACE VIEW rating_errors_current AS
SELECT * FROM rating_errors FINAL WHERE reason != '';

CREATE OR REPLACE VIEW period_closes_current AS SELECT * FROM period_closes FINAL;

CREATE OR REPLACE VIEW rejected_current AS SELECT * FROM rejected FINAL;

CREATE OR REPLACE VIEW progress_current AS SELECT * FROM progress FINAL;

CREATE OR REPLACE VIEW catalog_customers_current AS SELECT * FROM catalog_customers FINAL;

CREATE OR REPLACE VIEW sink_progress_current AS SELECT * FROM sink_progress FINAL;

CREATE OR REPLACE VIEW charges_by_price AS
SELECT customer, period, currency, price, meter, sum(quantity) AS quantity, sum(amount) AS amount, count() AS hours
FROM charges_current
GROUP BY customer, period, currency, price, meter;

-- The lines of a bill: what each tier of each card version came to.
CREATE OR REPLACE VIEW bill_lines AS
SELECT
    customer, period, currency, price, meter, card, card_version,
    slice.1 AS tier, slice.3 AS unit_price,
    min(hour) AS first_hour,
    sum(slice.2) AS units,
    sum(slice.4) AS flat_fees,
    sum(slice.5) AS amount
FROM charges_current
ARRAY JOIN arrayZip(slice_tiers, slice_units, slice_unit_prices, slice_flat_fees, slice_amounts) AS slice
GROUP BY customer, period, currency, price, meter, card, card_version, tier, unit_price;

-- A closed period against the charges that are here: billing waits until both agree.
CREATE OR REPLACE VIEW close_check AS
SELECT
    c.customer AS customer, c.period AS period, c.currency AS currency, c.errors AS errors,
    c.rows AS rows_closed, r.rows AS rows_here, c.amount AS amount_closed, r.amount AS amount_here,
    rows_closed = rows_here AND amount_closed = amount_here AND errors = 0 AS agrees
FROM period_closes_current AS c
LEFT JOIN (SELECT customer, period, count() AS rows, sum(amount) AS amount FROM charges_current GROUP BY customer, period) AS r
    ON r.customer = c.customer AND r.period = c.period;
