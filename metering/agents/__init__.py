"""Faust agents: read, call one pure function, write."""
