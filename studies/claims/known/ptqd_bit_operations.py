"""PTQD: twenty times fewer bit operations."""

from studies.claims.claim import UntestableClaim
from studies.recipes.known.ptqd import SOURCE

CLAIM = UntestableClaim(
    "ptqd-bit-operations",
    "Bit operations fall by a factor of 19.96 at the quality of full precision.",
    SOURCE,
    "bit operations of the paper's network",
    "The factor is a count over that network's layers, and it is not shipped; qnoise sites counts a network at hand.",
)
