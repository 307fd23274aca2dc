"""TDQ after training: scales from a small network of the timestep, kept as a table."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.intervals import FitIntervals
from studies.recipes.stages.ranges import TrajectoryRanges

SOURCE = Source("Temporal Dynamic Quantization for Diffusion Models", "So et al.", "NeurIPS 2023")

RECIPE = Recipe(
    "tdq-ptq",
    "Activation scales from an MLP of the timestep's Fourier code, fitted to observed operands, run from a table.",
    SOURCE,
    (TrajectoryRanges(), FitIntervals()),
    (
        "Scales minimise each operand's own error; the paper fits them in block reconstruction.",
        "Weights are symmetric, as in every recipe here; the paper's have zero points.",
        "The last layer starts at zero, so that the scale starts where it should (variant exact).",
    ),
)
