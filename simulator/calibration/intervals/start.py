"""Where learned intervals begin: the scale and zero point of least error over all timesteps, or the released rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_bool, require_real
from simulator.arithmetic.quantizer import QuantSpec, parameters_from_range
from simulator.calibration.points import Points
from simulator.calibration.search import LpSearch

SILU_LOW = -0.2785
"""Released code's low end after SiLU, whose minimum is -0.27846."""


@dataclass(frozen=True)
class Start:
    """First scale and zero point of an operand.

    Args:
        scale: positive.
        zero_point: real, in codes.
        learned: whether the zero point is learned.
        low: if given, the zero point is ``qmin - low / s`` for whatever s: a fixed low end.

    Raises:
        BadInput: a number that is not finite, or a scale that is not positive.
    """

    scale: float
    zero_point: float
    learned: bool = True
    low: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", require_real("scale", self.scale))
        object.__setattr__(self, "zero_point", require_real("zero_point", self.zero_point))
        require_bool("learned", self.learned)
        if self.low is not None:
            object.__setattr__(self, "low", require_real("low", self.low))
        if self.scale <= 0:
            raise BadInput("scale must be positive", got=self.scale, fix="check the observed operands")


def least_error(values: np.ndarray, weights: np.ndarray, spec: QuantSpec, p: float) -> Start:
    """Of 100 shares of the values' range the one with the least weighted ``mean |e|^p`` (TDQ, section 3.4)."""
    order = np.argsort(values, axis=None)
    ascending, counts = values.reshape(-1)[order][None], weights.reshape(-1)[order][None].astype(np.float64)
    low, high = ascending[:, 0].astype(np.float64), ascending[:, -1].astype(np.float64)
    bounds = LpSearch(p).fit(Points(ascending, counts, low, high, np.zeros(1)), spec)
    scale, zero_point = parameters_from_range(*bounds, spec)
    return Start(float(scale[0]), float(zero_point[0]))


def released(values: np.ndarray, weights: np.ndarray, spec: QuantSpec) -> Start:
    """TDQ's code: a symmetric range to ``|mean + 3 sigma|``; after SiLU one of ``mean + 16 sigma`` from -0.2785 up.

    Mean and sigma are of each timestep's values, averaged over timesteps. The engine's activations are unsigned, so a
    symmetric range is one whose zero point stays at the middle code. A site is taken to read SiLU's output where its
    smallest value lies in [-0.2785, 0) and its largest is farther from 0. The absolute value is a guard: nothing in
    the rule keeps the sum positive.
    """
    rows, weights = values.astype(np.float64), weights.astype(np.float64)
    means = (weights * rows).mean(axis=1, keepdims=True)
    variances = (weights * (rows - means) ** 2).sum(axis=1) / (rows.shape[1] - 1)
    mean, sigma = means.mean(), np.sqrt(variances).mean()
    qmin, qmax = spec.format.qmin, spec.format.qmax
    smallest = rows.min()
    if SILU_LOW <= smallest < 0 and rows.max() > -smallest:
        return Start(_positive((mean + 16 * sigma) / (qmax - qmin)), 0.0, learned=False, low=SILU_LOW)
    middle = (qmin + qmax + 1) // 2
    return Start(_positive(abs(mean + 3 * sigma) / (qmax - middle)), float(middle), learned=False)


def _positive(scale: float) -> float:
    return float(scale) if scale > np.finfo(np.float32).tiny else 1.0
