"""RepQ-ViT as PTQ4DiT's baseline RepQ*: norms re-scaled to one scale."""

from simulator.instrument.scheme import ProbabilityFormat, Rule, Settings
from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.scheme import UseScheme
from studies.recipes.stages.transforms import RescaleNorms

RECIPE = Recipe(
    "repq",
    "Re-scales norms so that one scale serves all channels after them.",
    Source(
        "RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers", "Li et al.",
        "ICCV 2023",
    ),
    (
        UseScheme("w{w}a{a}", (Rule(("@pv",), Settings(probability_format=ProbabilityFormat.LOG_SQRT2)),)),
        RescaleNorms(),
    ),
    (
        "The common zero point is rounded to an integer.",
        "The largest softmax output is the calibrated one; the released code searches among percentiles.",
    ),
)  # fmt: skip
