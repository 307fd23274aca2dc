"""BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction."""

from simulator.calibration.reconstruction.settings import brecq
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.reconstruction import Reconstruct

RECIPE = Recipe(
    "brecq",
    "Learns roundings block by block, then activation scales.",
    Source("BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction", "Li et al.", "ICLR 2021"),
    (TrajectoryRanges(), Reconstruct(brecq("full"))),
    ("1000 iterations per unit, not 20000, with a regularizer in units of nearest rounding's loss.",),
)
