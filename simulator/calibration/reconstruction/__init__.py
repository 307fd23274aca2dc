"""Rounding optimisation: weights rounded up or down so that parts of a network keep their output, and learned scales.

AdaRound (Nagel et al. 2020), BRECQ (Li et al. 2021) and QDrop (Wei et al. 2022) are one method with other settings;
``run.reconstruct`` is it, and ``settings`` holds the three. ``docs/methods/reconstruction.md`` has the equations.
"""
