"""PTQD: quantization noise is correlated with the output, at every bit width, the more the fewer bits.

R is signed, for only a positive slope is corrected. 0.3 is R^2 of 0.09: what scaling could take off is then 0.4 dB, and
less would not be worth a factor per step. A share of a tenth is as much; a growth by a twentieth is half of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from noise_models.decomposition.split import decompose
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.measuring import plain, runs
from studies.claims.verdict import Direction
from studies.recipes.known.ptqd import SOURCE

WIDTHS = ("w8a8", "w4a8", "w4a4")


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Correlation of epsilon's injected noise with epsilon, and the share of variance that it explains."""
    found = runs([plain(s, setting) for s in WIDTHS], setting, seed, report, kinds=("injected",))
    split = [decompose(run) for run in found]
    shares = [float(one.r_squared.mean()) for one in split]
    correlations = {f"r-{s}": float(one.correlation.mean()) for s, one in zip(WIDTHS, split, strict=True)}
    return {**correlations, "share": shares[1], "growth": shares[-1] - shares[0]}


CLAIM = Claim(
    "noise-correlates-at-every-width",
    "A considerable part of the quantization noise is a multiple of the output, and the more so the fewer bits.",
    SOURCE,
    (
        *(
            Endpoint(
                f"r-{s}", f"Pearson's r of epsilon's noise and epsilon, mean over steps, {s.upper()}", "1",
                Direction.ABOVE, 0.3,
            )
            for s in WIDTHS
        ),
        Endpoint("share", "R^2 of epsilon's noise on epsilon, mean over steps, W4A8", "1", Direction.ABOVE, 0.1),
        Endpoint("growth", "the same, W4A4 minus W8A8", "1", Direction.ABOVE, 0.05),
    ),
    (Setting("digits-unet"), Setting("digits-dit")),
    measure,
)  # fmt: skip
