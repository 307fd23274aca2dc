"""SVDQuant's form: a low-rank branch at 16 bits beside grouped low-bit weights."""

from simulator.calibration.balancing.rules import SmoothQuant
from simulator.calibration.transforms.low_rank import LowRank
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.transforms import BalanceChannels, LowRankBranches

RECIPE = Recipe(
    "svdquant",
    "Smooths activations into weights, takes a low-rank part of each linear weight at 16 bits, quantizes the rest.",
    Source("SVDQuant: Absorbing Outliers by Low-Rank Components for 4-Bit Diffusion Models", "Li et al.", "ICLR 2025"),
    (BalanceChannels(SmoothQuant()), LowRankBranches(LowRank(16)), TrajectoryRanges()),
    (
        "The branch runs in 16-bit integers, not floats, with rank 16 for these layers of 96 channels (paper: 32).",
        "Factors are not refitted, and smoothing has the exponent 0.5; the released code searches it for each layer.",
        "Activations have one static scale per tensor; the paper's are dynamic, in groups of 64.",
        "Convolutions have no branch, and what follows an activation is not smoothed: of a UNet this leaves little.",
    ),
)
