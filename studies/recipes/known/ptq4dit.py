"""PTQ4DiT: channel salience balanced between activations and weights, over timesteps."""

from simulator.calibration.balancing.rules import SalienceBalancing
from simulator.calibration.search import PercentileSearch
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.transforms import BalanceChannels
from studies.recipes.stages.weights import WeightRanges

RECIPE = Recipe(
    "ptq4dit",
    "Balances salient channels of activations and weights, weighted over timesteps, folded into adaLN.",
    Source("PTQ4DiT: Post-training Quantization for Diffusion Transformers", "Wu et al.", "NeurIPS 2024"),
    (
        BalanceChannels(SalienceBalancing()),
        TrajectoryRanges(observer=PercentileSearch()),
        WeightRanges(PercentileSearch()),
    ),
    (
        "Balancing alone: the released code reconstructs every block after it, and has softmax outputs of 8 bits.",
        "Weights are symmetric, as in every recipe here; the released code's have zero points.",
        "Factors are folded offline as the paper says; the released code divides at run time.",
    ),
)
