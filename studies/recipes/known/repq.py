"""RepQ-ViT as PTQ4DiT's baseline RepQ*: norms re-scaled to one scale."""

from simulator.calibration.search import PercentileSearch
from simulator.instrument.scheme import ProbabilityFormat, Rule, Settings
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.scheme import UseScheme
from studies.recipes.stages.transforms import RescaleNorms
from studies.recipes.stages.weights import WeightRanges

RECIPE = Recipe(
    "repq",
    "Re-scales norms so that one scale serves all channels after them.",
    Source(
        "RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers", "Li et al.",
        "ICCV 2023",
    ),
    (
        UseScheme("w{w}a{a}", (Rule(("@pv",), Settings(probability_format=ProbabilityFormat.LOG_SQRT2)),)),
        RescaleNorms(observer=PercentileSearch(bins=2048)),
        WeightRanges(PercentileSearch()),
    ),
    (
        "The common zero point is rounded to an integer.",
        "Percentiles of softmax outputs are judged by the error of a uniform quantizer; what rounds below the last "
        "log-sqrt2 code stays there, as the paper writes, where the released code puts 0.",
        "Weights are symmetric, as in every recipe here; the released code's have zero points.",
    ),
)  # fmt: skip
