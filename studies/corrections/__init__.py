"""``qnoise correct`` and ``qnoise feasibility``."""
