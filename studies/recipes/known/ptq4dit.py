"""PTQ4DiT: channel salience balanced between activations and weights, over timesteps."""

from simulator.calibration.balancing.rules import SalienceBalancing
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.transforms import BalanceChannels

RECIPE = Recipe(
    "ptq4dit",
    "Balances salient channels of activations and weights, weighted over timesteps, folded into adaLN.",
    Source("PTQ4DiT: Post-training Quantization for Diffusion Transformers", "Wu et al.", "NeurIPS 2024"),
    (BalanceChannels(SalienceBalancing()), TrajectoryRanges()),
    (
        "Ranges by min-max; the released code chooses among percentiles.",
        "Factors are folded offline as the paper says; the released code divides at run time.",
    ),
)
