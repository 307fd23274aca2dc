"""Checks of a requantizer's parameters."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import require_scale


def as_float32(name: str, value: object, *, positive: bool = True) -> np.ndarray:
    """A Python number rounded to float32, or a float32 array as it is.

    Raises:
        BadInput: another dtype, an empty array, or a value that is not finite (and, if asked, positive).
    """
    if isinstance(value, int | float) and not isinstance(value, bool | np.floating):
        with np.errstate(over="ignore"):
            value = np.float32(value if abs(value) < 2**128 else np.inf)
    if not isinstance(value, np.ndarray | np.float32) or value.dtype != np.float32:
        got = value.dtype if isinstance(value, np.ndarray | np.generic) else type(value).__name__
        raise BadInput(
            f"{name} must be float32 or a Python number", got=got, fix="convert it, so the rounding is yours"
        )
    if value.ndim and not value.size:
        raise BadInput(f"{name} must hold at least one value", got=value.shape, fix="give one per channel")
    if positive:
        require_scale(value)
    elif not np.all(np.isfinite(value)):
        raise BadInput(f"{name} must be finite", got=value, fix="check it for NaN or inf")
    return np.ascontiguousarray(value) if value.ndim else np.asarray(value)


def require_vector(name: str, value: object, dtype: np.dtype | type) -> None:
    """Raise BadInput unless ``value`` is a ``dtype`` array (channels,), finite if it holds floats."""
    wanted = np.dtype(dtype)
    if not isinstance(value, np.ndarray) or value.dtype != wanted or value.ndim != 1 or not value.size:
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise BadInput(f"{name} must be a {wanted} array (channels,)", got=got, fix="one value per output channel")
    if wanted.kind == "f" and not np.all(np.isfinite(value)):
        raise BadInput(f"{name} must be finite", got=value[~np.isfinite(value)][0], fix="check it for NaN or inf")


def require_format(format: object, bits: int) -> None:
    """Raise BadInput unless ``format`` is an IntFormat of at most ``bits`` bits."""
    if not isinstance(format, IntFormat) or format.bits > bits:
        raise BadInput(f"format must be an IntFormat of at most {bits} bits", got=format, fix="use a narrower one")


def spread(values: np.ndarray, channels: int) -> np.ndarray:
    """One value per channel, contiguous."""
    return np.ascontiguousarray(np.broadcast_to(values, (channels,)))
