-- What billing sync did and what its reconciler found, for dashboards. The ledger is the truth; an export replaces the one before.

CREATE TABLE IF NOT EXISTS billing_invoices (
    invoice String,
    customer String,
    period LowCardinality(String),
    currency LowCardinality(String),
    state LowCardinality(String),
    reason String,
    external String,
    number String,
    rated Decimal(38, 6),
    invoiced Decimal(38, 6),
    carried_before Decimal(38, 6),
    carried_after Decimal(38, 6),
    changed DateTime('UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (customer, period, invoice)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS billing_reconcile (
    customer String,
    kind LowCardinality(String),
    subject String,
    period LowCardinality(String),
    verdict LowCardinality(String),
    wanted Decimal(38, 6),
    held Decimal(38, 6),
    note String,
    checked DateTime64(3, 'UTC'),
    version UInt64
) ENGINE = ReplacingMergeTree(version)
ORDER BY (customer, kind, subject)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE OR REPLACE VIEW billing_invoices_current AS SELECT * FROM billing_invoices FINAL;

CREATE OR REPLACE VIEW billing_reconcile_current AS SELECT * FROM billing_reconcile FINAL;
