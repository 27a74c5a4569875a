"""Quotas: limits on usage, counted where usage is metered, answered from memory."""
