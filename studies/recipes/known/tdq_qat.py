"""Trains the network on with scales from an MLP of the timestep."""

from simulator.calibration.intervals.generator import TDQ
from simulator.calibration.intervals.learned_scales import ScalePerTimestep
from simulator.calibration.training.methods import LSQ, WeightScales
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.training import FineTune

RECIPE = Recipe(
    "tdq-qat",
    "Trains the network on with scales from an MLP of the timestep.",
    Source("Temporal Dynamic Quantization for Diffusion Models", "So et al.", "NeurIPS 2023"),
    (FineTune(LSQ(ScalePerTimestep(TDQ()), weights=WeightScales.SCHEME)),),
    (
        "2000 optimizer steps on the model's own training split.",
        "One learned zero point per operand, rounded in the table; the paper leaves it open.",
        "Scales begin where LSQ's do, not at the least error, so that the two rows differ in s(t) alone.",
        "Weights have a scale per output channel, as in every recipe here; TDQ's comparison has one per layer.",
    ),
)
