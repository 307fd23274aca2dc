"""Corrections that a run accepts, how they are fitted, and where a fit may be used."""
