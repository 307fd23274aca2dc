"""Ranges of tensors at hand, such as weights."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_array, require_kind
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.observers import Bounds, MinMax, Observer
from simulator.calibration.points import points_of


def fit_range(values: np.ndarray, spec: QuantSpec, observer: Observer) -> Bounds:
    """Low and high of each group of ``spec.granularity``, for ``parameters_from_range``.

    Exact on the data: no histogram stands between, but for observers that are defined on one.

    Args:
        values: float32, in the layout that will be quantized.
        spec: format, granularity, rounding, rule and scale format.
        observer: how bounds are found.

    Returns:
        float64 arrays in the granularity's parameter shape.

    Raises:
        BadInput: no float32 array, no elements, NaN or infinity, or an observer that cannot use the spec.
    """
    require_array("values", values, np.float32)
    require_kind("spec", spec, QuantSpec)
    require_kind("observer", observer, Observer)
    if not np.isfinite(values).all():
        raise BadInput("values must be finite", got="NaN or infinity", fix="check the weights")
    if isinstance(observer, MinMax):  # without sorting
        low, high = (spec.granularity.reduce(values, ufunc) for ufunc in (np.minimum, np.maximum))
        return low.astype(np.float64), high.astype(np.float64)
    if not values.size:
        raise BadInput("values must have elements", got=values.shape, fix="skip empty tensors")
    shape = spec.granularity.parameter_shape(values.shape)
    low, high = observer.fit(points_of(values, spec.granularity), spec)
    return low.reshape(shape), high.reshape(shape)
