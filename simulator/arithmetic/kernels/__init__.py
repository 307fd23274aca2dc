"""Compiled loops: all of the numba code of the engine, and nothing else."""
