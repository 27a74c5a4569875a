"""Chaos on the real parts; see docs/testing.md."""
