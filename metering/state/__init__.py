"""Deterministic folds and what makes them durable."""
