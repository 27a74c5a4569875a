"""Alerts for people: what happened to quotas, bills and payments, as signed webhooks and e-mail."""
