"""Figures of stored runs, by name."""
