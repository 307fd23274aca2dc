"""Min-max: the baseline of every paper."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges

RECIPE = Recipe(
    "minmax",
    "Ranges from the smallest and largest value that calibration saw, over all steps.",
    Source(
        "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
        "Jacob et al.", "CVPR 2018",
    ),
    (TrajectoryRanges(),),
)  # fmt: skip
