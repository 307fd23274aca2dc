"""RepQ-ViT as PTQ4DiT's baseline RepQ*: norms re-scaled to one scale."""

from studies.recipes.recipe import Recipe, Source
from studies.recipes.stages.transforms import RescaleNorms

RECIPE = Recipe(
    "repq",
    "Re-scales norms so that one scale serves all channels after them.",
    Source(
        "RepQ-ViT: Scale Reparameterization for Post-Training Quantization of Vision Transformers", "Li et al.",
        "ICCV 2023",
    ),
    (RescaleNorms(),),
    (
        "The common zero point is rounded to an integer.",
        "Softmax outputs keep the uniform quantizer; the paper's has log sqrt 2 steps.",
    ),
)  # fmt: skip
