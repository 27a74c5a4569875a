"""A stateful Stripe for tests and for working without an account: the part that billing sync uses.

`core.Fake` is the account; `client.FakeClient` puts it behind the real SDK in the same process with
a clock of one's own, `server` puts it on a socket. `docs/billing.md` says what it models and what
it does not.
"""
