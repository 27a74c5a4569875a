"""Grafana dashboards as code: the generator, what it made, and the proof that each query works."""
