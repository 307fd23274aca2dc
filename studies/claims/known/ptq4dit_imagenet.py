"""PTQ4DiT: DiT-XL on ImageNet at eight and four bits."""

from studies.claims.claim import UntestableClaim
from studies.recipes.known.ptq4dit import RECIPE

CLAIM = UntestableClaim(
    "ptq4dit-imagenet",
    "A large DiT keeps its quality at W8A8, and for the first time usable quality at W4A8, at 50 to 250 steps.",
    RECIPE.source,
    "FID, sFID, IS and precision on ImageNet 256x256 and 512x512",
    "It needs DiT-XL/2 and its reference statistics of ImageNet; the shipped DiT has 4 blocks and draws digits.",
)
