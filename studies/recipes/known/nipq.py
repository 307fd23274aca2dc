"""Trains the network on with noise in place of rounding."""

from simulator.calibration.training.methods import NIPQ, WeightScales
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.training import FineTune

RECIPE = Recipe(
    "nipq",
    "Trains the network on with noise in place of rounding.",
    Source("NIPQ: Noise Proxy-Based Integrated Pseudo-Quantization", "Shin et al.", "CVPR 2023"),
    (FineTune(NIPQ(weights=WeightScales.SCHEME)),),
    (
        "2000 optimizer steps on the model's own training split.",
        "Bit widths are not learned.",
        "Weights have a scale per output channel, as in every recipe here; TDQ's comparison has one per layer.",
    ),
)
