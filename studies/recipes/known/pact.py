"""Trains the network on with a learned bound of each activation."""

from simulator.calibration.training.methods import PACT, WeightScales
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.training import FineTune

RECIPE = Recipe(
    "pact",
    "Trains the network on with a learned bound of each activation.",
    Source("PACT: Parameterized Clipping Activation for Quantized Neural Networks", "Choi et al.", "2018"),
    (FineTune(PACT(decay=1e-5, weights=WeightScales.SCHEME)),),
    (
        "2000 optimizer steps on the model's own training split.",
        "Activations of both signs have a bound on each side; weights have LSQ scales in place of DoReFa.",
        "Weights have a scale per output channel, as in every recipe here; TDQ's comparison has one per layer.",
        "The decay of squared bounds is 1e-5: at 1e-4 it outweighs a loss of 0.07.",
    ),
)
