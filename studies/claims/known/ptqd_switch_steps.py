"""PTQD: where along the run the bits change."""

from studies.claims.claim import UntestableClaim
from studies.recipes.known.ptqd import SOURCE

CLAIM = UntestableClaim(
    "ptqd-switch-steps",
    "The steps at which activation bits change follow from comparing the noise's ratio with the schedule's.",
    SOURCE,
    "published split of the steps between W4A4 and W4A8",
    "The printed rule compares a ratio of norms with a ratio of powers and does not give the published steps, and no "
    "code for it was released; qnoise precision has both readings.",
)
