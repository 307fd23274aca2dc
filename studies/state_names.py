"""The sampler's number format by its name on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samplers.errors import BadInput

if TYPE_CHECKING:
    from samplers.state import State

FLOATS = ("float64", "float32", "float16", "bfloat16")
SYNTAX = f"{', '.join(FLOATS)}, or fixed:BITS:FRACTION_BITS[:COEFFICIENT_FRACTION_BITS]"


def state_from_text(text: str) -> State:
    """The state that a text names.

    Raises:
        BadInput: none of ``SYNTAX``, or a fixed-point format that does not exist.
    """
    from samplers.fixed_point import FixedPointState
    from samplers.state import BFloat16State, Float16State, Float32State, Float64State

    floats: tuple[State, ...] = (Float64State(), Float32State(), Float16State(), BFloat16State())
    if text in FLOATS:
        return floats[FLOATS.index(text)]
    name, *numbers = text.split(":")
    if name != "fixed" or len(numbers) not in (2, 3) or not all(number.isdecimal() for number in numbers):
        raise BadInput(f"a state is {SYNTAX}", got=repr(text), fix="write float16, or fixed:24:14")
    return FixedPointState(*map(int, numbers))
