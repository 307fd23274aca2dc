"""Studies: a grid of runs as a value, and one run of it."""
