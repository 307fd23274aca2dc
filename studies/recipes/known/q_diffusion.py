"""Q-Diffusion: uniform timesteps, split shortcuts, block reconstruction."""

from simulator.calibration.collection.fixed import Uniform
from simulator.calibration.reconstruction.settings import brecq
from simulator.calibration.search import LpSearch
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.collected import CollectedRanges
from studies.recipes.stages.reconstruction import Reconstruct
from studies.recipes.stages.transforms import SplitShortcuts

RECIPE = Recipe(
    "q-diffusion",
    "Quantizes the halves of skip concatenations apart and reconstructs blocks on uniformly spaced timesteps.",
    Source("Q-Diffusion: Quantizing Diffusion Models", "Li et al.", "ICCV 2023"),
    (
        SplitShortcuts(),
        CollectedRanges(Uniform(20), 256, LpSearch(2.4)),
        Reconstruct(brecq("full"), Uniform(4), 256),
    ),
    (
        "1000 iterations per block on 1024 points, not 20000 on 5120.",
        "Softmax outputs have the bits of the other activations; the paper gives them their own.",
        "Weights are symmetric, as in every recipe here; the released code's have zero points.",
        "A sampler with fewer than 20 steps is observed at all of them.",
    ),
)
