"""Which operand of which site gets which format.

``wXaY`` means: weights X bits, symmetric, narrow range, one scale per output channel; activations Y bits, unsigned,
asymmetric, one static scale per tensor from the minimum and maximum over all steps of a calibration run; both inputs
of QK^T and P.V at Y bits; softmax outputs Y bits, unsigned, scale 1/(2^Y - 1); the first layer (it reads the sample)
and the last at 8 bits; every contraction in integers. ``wXgNaY`` shares weight scales over N input channels instead;
a suffix names another rounding than half to even: ``-half-away``, ``-half-up``, ``-half-down``, ``-toward-zero``,
``-floor``, ``-ceil``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from samplers.errors import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import Granularity, PerAxis, PerGroup
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.rounding import Rounding

EDGE_BITS = 8
"""Bits of the first and the last layer."""

PROBABILITY = "probability"
"""Role of a softmax output: its range is known, so it is never calibrated."""

_PATTERN = re.compile(r"w([0-9]+)(?:g([0-9]+))?a([0-9]+)(?:-([a-z-]+))?")


def _spelling(rounding: Rounding) -> str:
    return rounding.name.lower().replace("_", "-")


_ROUNDINGS = {_spelling(mode): mode for mode in Rounding if mode is not Rounding.STOCHASTIC}
"""Modes of a scheme. Stochastic rounding would need a stream for each step and site, which no scheme has yet."""


@dataclass(frozen=True)
class Scheme:
    """A quantization scheme.

    Args:
        weight_bits: 2 to 8.
        activation_bits: 2 to 8.
        group_size: input channels that share a weight scale, or None for one scale per output channel.
        rounding: rounding mode of weights and activations.
    """

    weight_bits: int
    activation_bits: int
    group_size: int | None = None
    rounding: Rounding = Rounding.HALF_EVEN

    def __post_init__(self) -> None:
        for name in ("weight_bits", "activation_bits"):
            bits = getattr(self, name)
            if not isinstance(bits, int) or not 2 <= bits <= 8:
                raise BadInput(f"{name} must be an integer in 2..8", got=bits, fix="choose such a width")
        if self.rounding is Rounding.STOCHASTIC:
            raise BadInput("a scheme rounds deterministically", got=self.rounding.name, fix="choose another mode")
        if self.group_size is not None and (not isinstance(self.group_size, int) or self.group_size < 1):
            raise BadInput(
                "group_size must be an integer of at least 1", got=self.group_size, fix="drop it, or use 32, 64, 128"
            )

    @classmethod
    def parse(cls, text: str) -> Scheme:
        """Read ``wXaY`` or ``wXgNaY``, e.g. ``w4a8``, ``w4g32a8``; ``str`` of the result reads back as the same.

        Raises:
            BadInput: another form, or bits out of range.
        """
        match = _PATTERN.fullmatch(text.strip().lower())
        if match is None:
            raise BadInput(
                "a scheme must read wXaY or wXgNaY", got=repr(text), fix="write for instance w8a8 or w4g32a8"
            )
        weight, group, activation, rounding = match.groups()
        if rounding is not None and rounding not in _ROUNDINGS:
            raise BadInput(
                f"a scheme's rounding must be one of {', '.join(_ROUNDINGS)}", got=repr(rounding), fix="choose one"
            )
        mode = _ROUNDINGS[rounding] if rounding else Rounding.HALF_EVEN
        return cls(int(weight), int(activation), int(group) if group else None, mode)

    def __str__(self) -> str:
        group = f"g{self.group_size}" if self.group_size else ""
        rounding = "" if self.rounding is Rounding.HALF_EVEN else f"-{_spelling(self.rounding)}"
        return f"w{self.weight_bits}{group}a{self.activation_bits}{rounding}"

    def weight_spec(self, *, edge: bool) -> QuantSpec:
        """Spec of a weight; ``edge`` marks the first and the last layer."""
        bits = EDGE_BITS if edge else self.weight_bits
        granularity: Granularity = PerAxis((0,))
        if self.group_size is not None and not edge:
            granularity = PerGroup(1, self.group_size, (0,))
        return QuantSpec(IntFormat(bits, signed=True, narrow=True), granularity, symmetric=True, rounding=self.rounding)

    def activation_spec(self, *, edge: bool) -> QuantSpec:
        """Spec of an operand computed at run time."""
        bits = EDGE_BITS if edge else self.activation_bits
        return QuantSpec(IntFormat(bits, signed=False), rounding=self.rounding)
