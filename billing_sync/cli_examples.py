"""The examples that `billing-sync … --help` shows; the tests parse each of them."""

from metering.cli_examples import Examples

EXAMPLES: Examples = {
    "run": ("billing-sync run --once", "billing-sync run --every 300"),
    "plan": ("billing-sync plan --period 2026-11",),
    "status": ("billing-sync status --period 2026-11",),
    "reconcile": ("billing-sync reconcile --from 2026-10 --to 2026-11", "billing-sync reconcile --repair"),
    "doctor": ("billing-sync doctor",),
    "periods list": ("billing-sync periods list",),
    "periods freeze": ('billing-sync periods freeze acme-robotics 2026-11 --reason "a dispute"',),
    "periods reopen": (
        'billing-sync periods reopen acme-robotics 2026-11 --reason "the dispute is settled"',
    ),
    "carry show": ("billing-sync carry show",),
    "carry settle": (
        'billing-sync carry settle acme-robotics --currency USD --reason "the contract has ended"',
    ),
    "dead list": ("billing-sync dead list",),
    "dead retry": ('billing-sync dead retry acme-robotics/2026-11 --reason "the address is there now"',),
    "dead drop": ('billing-sync dead drop acme-robotics/2026-11 --reason "a test customer"',),
    "customers list": ("billing-sync customers list",),
    "customers map": ('billing-sync customers map acme-robotics cus_123 --reason "the new account"',),
    "webhooks serve": ("STRIPE_WEBHOOK_SECRETS=whsec_1,whsec_2 billing-sync webhooks serve --port 8091",),
    "webhooks failed": ("billing-sync webhooks failed",),
    "webhooks retry": ('billing-sync webhooks retry evt_123 --reason "the ledger is back"',),
}
