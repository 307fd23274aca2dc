"""APQ-DM: groups of timesteps and of channels, calibrated on points chosen by their entropy."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.channel_groups import ChannelGroups

RECIPE = Recipe(
    "apq-dm",
    "Gives groups of alike timesteps, and in each 8 groups of a layer's input channels, ranges of their own.",
    Source("Towards Accurate Post-training Quantization for Diffusion Models", "Wang et al.", "CVPR 2024"),
    (ChannelGroups(),),
    (
        "Groups are hard, which integers can run with 8 partial sums; the released code mixes 8 scales for each "
        "channel, that is a scale per channel (grouping=SoftGrouping()).",
        "A channel's group follows from its observed bounds; the released code learns it from the error of the "
        "predicted noise.",
        "Timesteps are in 8 groups, cut where sharing ranges loses the fewest bits; the released code groups channels "
        "at each timestep apart.",
        "No step is skipped in collection, since every step needs ranges; the released code skips 30 of 100.",
        "Groups are of the inputs of convolutions and linear layers; operands of attention products have one range.",
    ),
)
