"""Writers and migrations for ClickHouse."""
