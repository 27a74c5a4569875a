"""Benchmarks: seeded loads, the real worker and its peers on the real Kafka, every total verified."""
