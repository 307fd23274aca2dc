"""Which points of full-precision trajectories calibration sees: collection policies, and the sets that they collect."""
