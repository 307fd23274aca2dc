"""Trains the network on with ten learned scales per operand, one for each tenth of the timesteps."""

from simulator.calibration.training.methods import LSQ, WeightScales
from simulator.calibration.training.scales import RangeScales
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.training import FineTune

RECIPE = Recipe(
    "s_n",
    "Trains the network on with ten learned scales per operand, one for each tenth of the timesteps.",
    Source("Temporal Dynamic Quantization for Diffusion Models (its baseline S_N)", "So et al.", "NeurIPS 2023"),
    (FineTune(LSQ(RangeScales(10), weights=WeightScales.SCHEME)),),
    (
        "2000 optimizer steps on the model's own training split.",
        "N is 10.",
        "Weights have a scale per output channel, as in every recipe here; TDQ's comparison has one per layer.",
    ),
)
