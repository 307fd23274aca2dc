"""Engines: who computes the runs of a study. The store is the truth; an engine may lose anything but time."""
