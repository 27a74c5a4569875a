"""A stateful Stripe on loopback: the part of its API that billing sync uses, with its traps.

Modelled: customers, invoices (draft, open, void), lines with pagination, finalizing, idempotency
keys with their stored answers, currency steps, the limit of 250 lines, and faults on request.
Not modelled: payments, taxes, subscriptions, webhooks, search, rate limits by themselves.
"""
