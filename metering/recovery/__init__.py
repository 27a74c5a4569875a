"""Rebuilding what was lost from what remains, and proving that it is the same."""
