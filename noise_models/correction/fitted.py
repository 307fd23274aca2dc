"""What every fitted correction shares: arrays per step, checked and kept read-only, and where it may be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from noise_models.correction.scope import require_disjoint, require_same_scope
from noise_models.inference.pooling import Array
from samplers.errors import BadInput


def finite_arrays(correction: object, *names: str) -> None:
    """Replace the named fields of a frozen value by read-only float64 copies of one shape (step, channel).

    Raises:
        BadInput: an entry that is not finite, or shapes that are not equal and (step, channel).
    """
    for name in names:
        values = np.array(getattr(correction, name), np.float64) + 0.0  # so that a -0 cannot flip a zero's sign
        if not np.isfinite(values).all():
            raise BadInput(f"{name} must be finite", got=values, fix="fit on a run whose noise is finite")
        values.setflags(write=False)
        object.__setattr__(correction, name, values)
    shapes = {name: getattr(correction, name).shape for name in names}
    if len(set(shapes.values())) != 1 or any(len(shape) != 2 for shape in shapes.values()):
        raise BadInput("fitted arrays must all be (step, channel)", got=shapes, fix="use the fit function")


def require_use(source: Mapping[str, Any], use: Mapping[str, Any]) -> None:
    """Refuse a run of another model, scheme or sampler than the fit's, and one on its samples.

    Raises:
        BadInput: naming the field that differs.
    """
    plain = json.loads(json.dumps(use))  # tuples become lists, as in the stored configuration
    require_same_scope(source, plain)
    require_disjoint(source, plain)


def per_channel(values: Array, ndim: int) -> Array:
    """(channel,) shaped to multiply a tensor (batch, channel, ...) of ``ndim`` dimensions."""
    return values.reshape(-1, *[1] * (ndim - 2))
