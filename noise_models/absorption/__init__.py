"""Residual noise in place of part of the noise that a step adds anyway."""
