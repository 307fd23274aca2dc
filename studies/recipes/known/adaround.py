"""Up or Down? Adaptive Rounding for Post-Training Quantization."""

from simulator.calibration.reconstruction.settings import adaround
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.reconstruction import Reconstruct

RECIPE = Recipe(
    "adaround",
    "Learns whether each weight rounds up or down, layer by layer.",
    Source("Up or Down? Adaptive Rounding for Post-Training Quantization", "Nagel et al.", "ICML 2020"),
    (TrajectoryRanges(), Reconstruct(adaround("full"))),
    ("1000 iterations per unit, not 20000, with a regularizer in units of nearest rounding's loss.",),
)
