"""Checks of single arguments: each returns the value in its plain Python type or raises :class:`BadInput`.

The plain type matters as much as the check: configurations are hashed, and 50, np.int64(50) and 50.0 must not give
three different keys.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from samplers.errors import BadInput


def require_int(name: str, value: object, minimum: int) -> int:
    """Return ``value`` as an int of at least ``minimum``.

    Args:
        name: the argument's name, for the message.
        value: an int or a numpy integer; bool, float and str are refused.
        minimum: the smallest legal value.

    Raises:
        BadInput: ``value`` is no integer or is too small.
    """
    rule, fix = f"{name} must be an integer of at least {minimum}", f"pass an int >= {minimum}"
    if isinstance(value, bool):
        raise BadInput(rule, got=repr(value), fix=fix)
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # the TypeError is the check
    except TypeError:
        raise BadInput(rule, got=repr(value), fix=fix) from None
    if number < minimum:
        raise BadInput(rule, got=number, fix=fix)
    return number


def require_real(name: str, value: object) -> float:
    """Return ``value`` as a finite float.

    Raises:
        BadInput: ``value`` is no number, NaN or infinite.
    """
    rule = f"{name} must be a finite number"
    if isinstance(value, (bool, str)):
        raise BadInput(rule, got=repr(value), fix="pass a float")
    try:
        number = float(value)  # type: ignore[arg-type]  # the TypeError is the check
    except (TypeError, ValueError):
        raise BadInput(rule, got=repr(value), fix="pass a float") from None
    if not math.isfinite(number):
        raise BadInput(rule, got=number, fix="pass a finite float")
    return number


def require_bool(name: str, value: object) -> bool:
    """Return ``value`` if it is True or False.

    Raises:
        BadInput: anything else (1 and "yes" included).
    """
    if not isinstance(value, bool):
        raise BadInput(f"{name} must be True or False", got=repr(value), fix="pass a bool")
    return value


def require_choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    Raises:
        BadInput: it is not; the message lists ``allowed``.
    """
    if not isinstance(value, str) or value not in allowed:
        raise BadInput(f"{name} must be one of {', '.join(allowed)}", got=repr(value), fix="choose one of those")
    return value
