"""BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction."""

from simulator.calibration.collection.random_steps import RandomSteps
from simulator.calibration.reconstruction.settings import brecq
from simulator.calibration.search import LpSearch
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.collected import CollectedRanges
from studies.recipes.stages.reconstruction import Reconstruct

RECIPE = Recipe(
    "brecq",
    "Learns roundings block by block, then activation scales.",
    Source("BRECQ: Pushing the Limit of Post-Training Quantization by Block Reconstruction", "Li et al.", "ICLR 2021"),
    (CollectedRanges(RandomSteps(4), 256, LpSearch(2.4)), Reconstruct(brecq("full"))),
    (
        "1000 iterations per unit, not 20000, with a regularizer in units of nearest rounding's loss.",
        "Ranges of weights are their extremes, not those of least error.",
    ),
)
