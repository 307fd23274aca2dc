"""Yang et al.: ranges of the noisiest step, weights in groups."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import Steps, TrajectoryRanges
from studies.recipes.stages.scheme import UseScheme

RECIPE = Recipe(
    "one-step-groupwise",
    "Activation ranges of the noisiest step alone, weight scales shared by groups of input channels.",
    Source("An Analysis on Quantizing Diffusion Transformers", "Yang et al.", "2024"),
    (UseScheme("w{w}g16a{a}"), TrajectoryRanges(steps=Steps.NOISIEST)),
    (
        "The paper does not state its group size for every table; groups of 16 fit layers of 32 channels and more.",
        "Weights are in groups at every width; the paper has them for low ones.",
    ),
)
