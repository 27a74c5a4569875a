"""Meters, rate cards, plans and customers: read, checked, published, looked up."""
