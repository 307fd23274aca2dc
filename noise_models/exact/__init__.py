"""Exact distributions along samplers, and distances between distributions."""
