"""QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization."""

from simulator.calibration.collection.random_steps import RandomSteps
from simulator.calibration.reconstruction.settings import qdrop
from simulator.calibration.search import LpSearch
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.collected import CollectedRanges
from studies.recipes.stages.reconstruction import Reconstruct

RECIPE = Recipe(
    "qdrop",
    "Learns roundings block by block while activations are quantized at random.",
    Source(
        "QDrop: Randomly Dropping Quantization for Extremely Low-bit Post-Training Quantization",
        "Wei et al.",
        "ICLR 2022",
    ),
    (CollectedRanges(RandomSteps(4), 256, LpSearch(2.4)), Reconstruct(qdrop("full"))),
    (
        "1000 iterations per unit, not 20000, with a regularizer in units of nearest rounding's loss.",
        "Ranges of weights are their extremes, not those of least error.",
        "Activation scales are learned after the roundings, not together with them.",
    ),
)
