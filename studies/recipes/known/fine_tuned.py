"""Trains the network on in full precision, then min-max: the control of every trained row."""

from simulator.calibration.training.methods import Control
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.ranges import TrajectoryRanges
from studies.recipes.stages.training import FineTune

RECIPE = Recipe(
    "fine-tuned",
    "Trains the network on in full precision, then min-max: the control of every trained row.",
    Source("the control of quantization-aware training", "ours", "qnoise"),
    (FineTune(Control()), TrajectoryRanges()),
    (
        "2000 optimizer steps on the model's own training split.",
        "Gains of trained recipes are quoted against this row.",
    ),
)
