"""PTQD: nothing is lost at W4A8 on ImageNet."""

from studies.claims.claim import UntestableClaim
from studies.recipes.known.ptqd import SOURCE

CLAIM = UntestableClaim(
    "ptqd-imagenet-w4a8",
    "Corrected, a latent diffusion model of ImageNet at W4A8 loses 0.06 of FID against full precision.",
    SOURCE,
    "FID on ImageNet 256x256",
    "It needs the paper's guided latent model and 50,000 images of ImageNet; shipped models draw digits.",
)
