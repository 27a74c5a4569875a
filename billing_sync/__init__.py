"""Pushes closed, rated periods to a payment provider, each cent once."""
