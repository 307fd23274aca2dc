"""Noise split along a signal, by channel, site and step, fitted here and judged there."""
