"""What a correction changed: paired, with intervals."""
