"""Yang et al.: ranges of 50 steps leave noise that one sees."""

from studies.claims.claim import UntestableClaim
from studies.recipes.known.one_step_groupwise import RECIPE

CLAIM = UntestableClaim(
    "yang-visible-noise",
    "Calibrating over 50 steps leaves visible noise in the images, calibrating on one does not.",
    RECIPE.source,
    "single images of a conditional DiT, judged by eye",
    "There is no number to compare; one-step-calibration compares the SQNR of both.",
)
