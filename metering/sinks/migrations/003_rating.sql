-- Every price model: effects beside slices, what a row is, and the digest of its events. New columns stand at the end.

ALTER TABLE hourly
    ADD COLUMN IF NOT EXISTS aggregation LowCardinality(String) DEFAULT 'sum',
    ADD COLUMN IF NOT EXISTS value_keys Array(String) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS value_weights Array(Decimal(38, 6)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS last_time DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS last_id String CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS digest String CODEC(ZSTD(1));

-- Exact amounts have 36 decimals: 18 of a slice, 12 of a conversion, 6 of a percentage.
ALTER TABLE charges MODIFY COLUMN rounding Decimal(76, 36) CODEC(ZSTD(1));

ALTER TABLE charges
    ADD COLUMN IF NOT EXISTS slice_billed Array(Decimal(38, 6)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS slice_labels Array(LowCardinality(String)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS effect_names Array(LowCardinality(String)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS effect_amounts Array(Decimal(76, 36)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS line LowCardinality(String) DEFAULT 'usage',
    ADD COLUMN IF NOT EXISTS model LowCardinality(String),
    ADD COLUMN IF NOT EXISTS digest String CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS corrects LowCardinality(String);

ALTER TABLE catalog_customers
    ADD COLUMN IF NOT EXISTS pool String;

CREATE OR REPLACE VIEW hourly_current AS
SELECT * FROM hourly FINAL SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW charges_current AS
SELECT * FROM charges FINAL WHERE card != '' SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW catalog_customers_current AS SELECT * FROM catalog_customers FINAL;

CREATE OR REPLACE VIEW charges_by_price AS
SELECT customer, period, currency, price, meter, line, sum(quantity) AS quantity, sum(amount) AS amount, count() AS hours
FROM charges_current
GROUP BY customer, period, currency, price, meter, line;

-- The lines of a bill: what each tier, cell or rule of each card version came to.
CREATE OR REPLACE VIEW bill_lines AS
SELECT
    customer, period, currency, price, meter, line, model, card, card_version,
    slice.1 AS tier, slice.7 AS label, slice.3 AS unit_price,
    min(hour) AS first_hour,
    sum(slice.2) AS units,
    sum(slice.6) AS billed,
    sum(slice.4) AS flat_fees,
    sum(slice.5) AS amount
FROM charges_current
ARRAY JOIN arrayZip(slice_tiers, slice_units, slice_unit_prices, slice_flat_fees, slice_amounts, slice_billed, slice_labels) AS slice
GROUP BY customer, period, currency, price, meter, line, model, card, card_version, tier, label, unit_price;

-- What maximum, discounts, caps, conversions and proration add to a bill.
CREATE OR REPLACE VIEW bill_effects AS
SELECT
    customer, period, currency, price, meter, line, card, card_version, effect.1 AS name,
    min(hour) AS first_hour, sum(effect.2) AS amount
FROM charges_current
ARRAY JOIN arrayZip(effect_names, effect_amounts) AS effect
GROUP BY customer, period, currency, price, meter, line, card, card_version, name;
