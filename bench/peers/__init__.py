"""Peers that do the same job, each in an environment of its own; none is a dependency of the project."""
