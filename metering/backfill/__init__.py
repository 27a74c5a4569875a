"""Backfills: usage events of a range added or replaced later, with a preview, and reverted as a whole."""
