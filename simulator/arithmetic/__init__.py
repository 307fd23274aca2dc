"""The integer engine: formats, granularity, rounding, quantizers and exact contractions; numpy and numba only."""
