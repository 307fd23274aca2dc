"""QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization."""

from simulator.calibration.reconstruction.settings import qdrop
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.reconstruction import Reconstruct

RECIPE = Recipe(
    "qdrop",
    "Learns roundings block by block while activations are quantized at random.",
    Source(
        "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization",
        "Wei et al.",
        "ICLR 2022",
    ),
    (TrajectoryRanges(), Reconstruct(qdrop("full"))),
    ("1000 iterations per unit, not 20000, with a regularizer in units of nearest rounding's loss.",),
)
