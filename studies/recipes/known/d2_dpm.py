"""D2-DPM: the noise expected from what the quantized network put out."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.correction import FitCorrection
from studies.recipes.stages.ranges import TrajectoryRanges

RECIPE = Recipe(
    "d2-dpm",
    "Subtracts the noise's mean given the quantized output, jointly Gaussian per step.",
    Source("D2-DPM: Dual Denoising for Quantized Diffusion Probabilistic Models", "Zeng et al.", "AAAI 2025"),
    (TrajectoryRanges(), FitCorrection("d2dpm")),
    ("Elements beyond 4 standard deviations are kept in the fit, since runs record moments.",),
)
