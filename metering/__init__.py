"""Exact usage metering and rating on Kafka, Faust and ClickHouse."""

__version__ = "0.1.0"
