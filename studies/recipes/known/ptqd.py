"""PTQD: the noise of min-max quantization, split and corrected."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.correction import FitCorrection
from studies.recipes.stages.ranges import TrajectoryRanges

SOURCE = Source("PTQD: Accurate Post-Training Quantization for Diffusion Models", "He et al.", "NeurIPS 2023")

RECIPE = Recipe(
    "ptqd",
    "Takes off the noise's correlated part and its bias, and lowers the sampler's noise by what remains.",
    SOURCE,
    (TrajectoryRanges(), FitCorrection("ptqd")),
    (
        "The paper starts from Q-Diffusion's reconstructed network; this starts from min-max ranges, so that its row "
        "shows the correction alone.",
        "The bias is the mean of the residual, as the paper writes; the released code takes that of the raw error.",
    ),
)
