"""Intervals that depend on the timestep or the channel: learned generators, scales per segment, groups of channels."""
