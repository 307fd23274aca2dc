"""PTQ-AttnDM: its FIDs."""

from studies.claims.claim import UntestableClaim
from studies.claims.known.attention_8_bits import SOURCE

CLAIM = UntestableClaim(
    "attndm-images",
    "At W8A8 and 250 steps it has FID 4.43, where APQ-DM has 5.51 and Q-Diffusion 8.07.",
    SOURCE,
    "FID of generated images",
    "It needs the dissertation's model and data, which it does not release; the order of the methods is tested on the "
    "digits.",
)
