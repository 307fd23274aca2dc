"""PTQD: mixed precision over the steps beats Q-Diffusion by far."""

from studies.claims.claim import UntestableClaim
from studies.recipes.known.ptqd import SOURCE

CLAIM = UntestableClaim(
    "ptqd-mixed-images",
    "With four-bit activations at early steps it has FID 6.44, where Q-Diffusion has 9.97, and 17.99 against 218.59.",
    SOURCE,
    "FID on ImageNet 256x256 and LSUN-Churches",
    "It needs latent models of ImageNet and of churches; the scoreboard runs both recipes on the digits.",
)
