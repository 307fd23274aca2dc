"""``qnoise explain``."""
