"""``qnoise predict``."""
