"""Instrumentation: every contraction of a torch module at a named site."""
