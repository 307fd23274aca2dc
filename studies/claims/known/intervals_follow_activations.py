"""TDQ: learned intervals move with the spread of the activations, though not in every layer.

The paper shows layers of a network trained at W4A4 against its loss; here intervals are fitted after training to each
operand's own error, 4 bits, which can only tie them closer to the operand. Spread is the standard deviation of an
operand over all its elements at a timestep, r is Pearson's over timesteps. 0.5 is the paper's bound of a moderate
correlation. An interval whose fit did not help stays constant, and does not follow. More than one layer in twenty is
an exception that one would meet in any network.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simulator.calibration.intervals.generator import TDQ
from simulator.calibration.intervals.observation import OperandSamples
from studies.claims.claim import Claim, Endpoint, Report, Setting
from studies.claims.series import following
from studies.claims.timesteps import fit_of, observe, scales_of
from studies.claims.verdict import Direction
from studies.recipes.known.tdq_ptq import SOURCE


def measure(setting: Setting, seed: int, report: Report) -> Mapping[str, float]:
    """Correlation of interval and spread of each operand that has a spread to follow."""
    observed = observe(setting, seed, report)
    found = observed.fitted(TDQ(), "w4a4", report, fit_of(setting))
    r = following(scales_of(observed, found), spread(observed.samples))
    r = r[~np.isnan(r)]
    return {"median": float(np.median(r)), "exceptions": float((r < 0.5).mean())}


def spread(samples: OperandSamples) -> np.ndarray:
    """Standard deviation of every operand at every timestep, float64 (operands, T), by the elements' weights."""
    rows = []
    for key, values in samples.values.items():
        wide, weight = values.astype(np.float64), samples.weight(key).astype(np.float64)
        mean = (weight * wide).mean(axis=1, keepdims=True)
        rows.append(np.sqrt((weight * (wide - mean) ** 2).mean(axis=1)))
    return np.stack(rows)


CLAIM = Claim(
    "intervals-follow-activations",
    "Learned intervals tend to change as the activations' spread does, but not in every layer.",
    SOURCE,
    (
        Endpoint("median", "r of interval and spread over timesteps, median of operands", "1", Direction.ABOVE, 0.5),
        Endpoint("exceptions", "share of operands with r < 0.5", "1", Direction.ABOVE, 0.05),
    ),
    (Setting("digits-unet"), Setting("digits-dit")),
    measure,
)
