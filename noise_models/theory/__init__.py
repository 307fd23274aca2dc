"""Closed forms of rounding, clipping and whole layers."""
