"""TDQ: layers that do not follow the timestep lie in the middle of the UNet, where meaning decides.

A difference of 0.1 in |r| is one that moves layers over the paper's thresholds, which are 0.2 apart.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simulator.calibration.sensitivity.temporal import temporal_correlation
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.timesteps import statistics
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """|r| of the middle block's operands and of the others; where those below 0.5 are."""
    correlation = temporal_correlation(statistics(setting, seed, report))
    inside = np.array([str(site).startswith("mid.") for site, _ in correlation.keys])
    return placed(np.abs(np.nan_to_num(correlation.pearson)), inside)


def placed(r: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """How much smaller |r| is inside a block, and the block's share of what does not follow; NaN where all follow."""
    without = r <= 0.5
    return {
        "gap": float(r[inside].mean() - r[~inside].mean()),
        "place": float(inside[without].mean()) if without.any() else float("nan"),
    }


CLAIM = Claim(
    "middle-block-follows-less",
    "The layers whose activations do not follow the timestep are mostly in the middle block.",
    SOURCE,
    (
        Endpoint(
            "gap", "mean |r(t, std)| of the middle block's operands minus of all others", "1", Direction.BELOW, -0.1
        ),
        Endpoint("place", "share of the middle block among operands with |r| <= 0.5", "1", Direction.ABOVE, 0.5),
    ),
    (Setting("digits-unet", samples=256),),
    measure,
)
