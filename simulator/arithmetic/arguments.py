"""Checks of arguments at the public edge: their type first, so that nothing later meets a value it cannot read.

One rule for all functions: an array is a ``numpy.ndarray`` in the machine's byte order, never a list, a number or None;
an integer is a Python or numpy integer, never a bool; nothing is cast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from samplers.errors import BadInput

INT32_MAX = 2**31 - 1
LARGEST_INTEGER = 2**62
"""Bound of integers that enter int64 arithmetic."""


def require_kind(name: str, value: object, kind: type | tuple[type, ...]) -> None:
    """Raise BadInput unless ``value`` is an instance of ``kind``."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(k.__name__ for k in kinds)
        raise BadInput(f"{name} must be of type {wanted}", got=type(value).__name__, fix="pass such a value")


def require_array(name: str, value: object, dtype: Any = None) -> None:
    """Raise BadInput unless ``value`` is an array, of ``dtype`` if one is named, in the machine's byte order."""
    if not isinstance(value, np.ndarray):
        raise BadInput(f"{name} must be a numpy array", got=type(value).__name__, fix="convert it first")
    if dtype is not None and value.dtype != np.dtype(dtype):
        raise BadInput(
            f"{name} must be {np.dtype(dtype)}", got=value.dtype, fix="convert it first, so that the rounding is yours"
        )
    if not value.dtype.isnative:
        raise BadInput(f"{name} must be in the machine's byte order", got=value.dtype, fix="convert it first")


def require_integers(name: str, value: object) -> np.ndarray:
    """``value``, an array of integers, as int64.

    Raises:
        BadInput: no array, no integers, or one of 2**62 or more in magnitude.
    """
    require_array(name, value)
    assert isinstance(value, np.ndarray)
    if value.dtype.kind not in "iu":
        raise BadInput(f"{name} must hold integers", got=value.dtype, fix="quantize it first")
    if value.size and not -LARGEST_INTEGER < int(value.min()) <= int(value.max()) < LARGEST_INTEGER:
        raise BadInput(f"{name} must lie inside 2**62", got=f"{value.min()} to {value.max()}", fix="check it")
    return value.astype(np.int64)


def is_integer(value: object) -> bool:
    """Whether ``value`` is one integer: a Python or numpy one, or an array () of them; not a bool."""
    if isinstance(value, np.ndarray):
        return value.ndim == 0 and value.dtype.kind in "iu"
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require_integer(name: str, value: Any, low: int = -LARGEST_INTEGER + 1, high: int = LARGEST_INTEGER - 1) -> int:
    """``value`` as a Python integer.

    Raises:
        BadInput: no integer, or outside ``[low, high]``.
    """
    if not is_integer(value):
        raise BadInput(f"{name} must be an integer", got=repr(value)[:60], fix="give one integer")
    if not low <= int(value) <= high:
        raise BadInput(f"{name} must lie in {low}..{high}", got=int(value), fix="check it")
    return int(value)


def require_shape(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise BadInput unless ``value`` has ``shape``."""
    if value.shape != shape:
        raise BadInput(f"{name} must have shape {shape}", got=value.shape, fix="reshape it")


def require_output(out: np.ndarray | None, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """``out``, or a fresh array where it is None.

    Raises:
        BadInput: another shape or dtype, gaps, or memory that cannot be written.
    """
    if out is None:
        return np.empty(shape, dtype)
    require_array("out", out)
    if out.shape != shape or out.dtype != dtype or not (out.flags.c_contiguous and out.flags.writeable):
        raise BadInput(
            f"out must be a C-contiguous, writeable {np.dtype(dtype)} array of shape {shape}",
            got=f"{out.dtype} {out.shape}",
            fix="allocate it so",
        )
    return out
