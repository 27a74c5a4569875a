-- Dashboards over charges and totals that were rewritten. Merging versions while a query runs is what costs most: a month that
-- nobody has written to for a day is made one part, in which each row stands once. The month that runs stays as it is.
ALTER TABLE charges
    MODIFY SETTING min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE hourly
    MODIFY SETTING min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

-- The billing periods that charges speak of, also one whose charges were all taken back: no version has to be looked at.
CREATE OR REPLACE VIEW charge_months AS
SELECT period, toDate(concat(toString(period), '-01')) AS month FROM charges GROUP BY period;

-- Rows of charges, superseded ones among them, whose parts do not explain them: a few to look at instead of all. A row of
-- `audit_unexplained` is always among them.
CREATE OR REPLACE VIEW audit_suspects AS
SELECT customer, period, price, hour
FROM charges
WHERE arraySum(arrayMap(x -> toDecimal256(x, 36), slice_amounts)) + arraySum(effect_amounts) + rounding
    != toDecimal256(amount, 36) OR (line = 'usage' AND quantity_after - quantity_before != quantity);
