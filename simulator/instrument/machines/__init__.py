"""Machines of a site: each computes a contraction from the same treatment, in its own arithmetic."""
