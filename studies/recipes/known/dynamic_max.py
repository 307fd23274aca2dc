"""Dynamic(max): activation ranges of each tensor as it comes."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme

RECIPE = Recipe(
    "dynamic-max",
    "Activation scales from each tensor's own smallest and largest value, at run time.",
    Source("Temporal Dynamic Quantization for Diffusion Models (its baseline)", "So et al.", "NeurIPS 2023"),
    (UseScheme("w{w}a{a}-dyn"), TrajectoryRanges(samples=8)),
    ("A few samples calibrate what has no run-time scale: softmax outputs, whose range is known anyway.",),
)
