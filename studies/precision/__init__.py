"""``qnoise precision``."""
