-- What the payment provider says has become of an invoice: draft, open, failed, uncollectible, paid, void; empty: it has not
-- said anything. `payment_told` is when it said so.

ALTER TABLE billing_invoices
    ADD COLUMN IF NOT EXISTS payment LowCardinality(String),
    ADD COLUMN IF NOT EXISTS payment_told DateTime('UTC');

CREATE OR REPLACE VIEW billing_invoices_current AS SELECT * FROM billing_invoices FINAL;
