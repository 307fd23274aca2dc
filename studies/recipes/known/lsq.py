"""Trains the network on with one learned scale per operand."""

from simulator.calibration.training.methods import LSQ, WeightScales
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.training import FineTune

RECIPE = Recipe(
    "lsq",
    "Trains the network on with one learned scale per operand.",
    Source("Learned Step Size Quantization", "Esser et al.", "ICLR 2020"),
    (FineTune(LSQ(weights=WeightScales.SCHEME)),),
    (
        "2000 optimizer steps on the model's own training split.",
        "Scales are held as exponents, so that Adam steps are relative.",
        "Weights have a scale per output channel, as in every recipe here; TDQ's comparison has one per layer.",
    ),
)
