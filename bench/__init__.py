"""Benchmarks: reproducible loads, the real worker on the real Kafka, peers on the same job, totals verified."""
