"""From scales and zero points back to the bounds that give them: how what was learned reaches the engine."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import QuantSpec, parameters_from_range
from simulator.calibration.ranges import Bounds


def bounds_of(scale: np.ndarray, zero_point: np.ndarray, spec: QuantSpec) -> Bounds:
    """Low and high (float64) from which ``parameters_from_range`` makes exactly this scale and zero point.

    Args:
        scale: float32, positive.
        zero_point: integers inside the format's range, 0 for a symmetric spec; of the scale's shape.
        spec: of the codes.

    Raises:
        BadInput: parameters that no range gives, such as a scale below the smallest normal float32.
    """
    wide, zero = np.asarray(scale).astype(np.float64), np.asarray(zero_point).astype(np.float64)
    high = (spec.format.qmax - zero) * wide
    low = -high if spec.symmetric else (spec.format.qmin - zero) * wide
    found = parameters_from_range(low, high, spec)
    if not (np.array_equal(found[0], scale) and np.array_equal(found[1], zero_point)):
        raise BadInput(
            "scale and zero point must be those of a range",
            got=f"scale {np.ravel(scale)[0]}, zero point {np.ravel(zero_point)[0]}",
            fix="use a normal positive float32 scale and a zero point inside the format",
        )
    return np.asarray(low), np.asarray(high)  # arithmetic turns arrays of shape () into numbers
