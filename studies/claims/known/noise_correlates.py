"""PTQD: quantization noise is correlated with the output, the more the fewer bits."""

from __future__ import annotations

from collections.abc import Mapping

from noise_models.decomposition.split import decompose
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.ptqd import SOURCE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Share of the noise's variance that a line through the output explains, mean over steps, per width."""
    schemes = ("w8a8", "w4a8", "w4a4")
    found = runs([plain(s, setting) for s in schemes], setting, seed, report, kinds=("injected",))
    eight, four, both = (float(decompose(run).r_squared.mean()) for run in found)
    return {"share": four, "growth": both - eight}


CLAIM = Claim(
    "noise-correlates",
    "A considerable part of the quantization noise is a multiple of the output, and the more so the fewer bits.",
    SOURCE,
    (
        Endpoint("share", "R^2 of epsilon's noise on epsilon, mean over steps, W4A8", "1", Direction.ABOVE, 0.1),
        Endpoint("growth", "the same, W4A4 minus W8A8", "1", Direction.ABOVE, 0.05),
    ),
    (Setting("digits-unet"), Setting("digits-dit")),
    measure,
)
