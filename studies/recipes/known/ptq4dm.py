"""PTQ4DM: calibration points normal in time, ranges by search."""

from simulator.calibration.collection.normal import Normal
from simulator.calibration.collection.order import Mixed
from simulator.calibration.observers import MovingAverage
from simulator.calibration.search import LpSearch
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.collected import CollectedRanges
from studies.recipes.stages.weights import WeightRanges

RECIPE = Recipe(
    "ptq4dm",
    "One point of each of 1024 samples, normal in time; ranges that minimise the L_2.4 error, weights' too.",
    Source("Post-training Quantization on Diffusion Models", "Shang et al.", "CVPR 2023"),
    (
        CollectedRanges(Normal(), 1024, MovingAverage(0.9, of=LpSearch(2.4)), Mixed()),
        WeightRanges(LpSearch(2.4)),
    ),
    (
        "A point carries the timestep of its own noise level; the released code labels x of one end of the chain with "
        "the timestep of the other (time_order of the collection).",
        "The paper's equation has variance T / 2; the deviation is 0.4 T, as in the released script.",
        "Both ends of a range shrink together; the released code searches one threshold of a symmetric range.",
        "Averages run over passes of the task's batch size; the released code has 256 points in each.",
    ),
)
