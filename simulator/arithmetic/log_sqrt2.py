"""The log-sqrt2 quantizer: codes are half octaves below a largest value.

``q = clip(round(-2 log2(x / delta)), 0, 2^b - 1)``, back ``2^(-ceil(q / 2)) ((q odd)(sqrt2 - 1) + 1) delta``, that is
``delta 2^(-q / 2)`` with ``sqrt2`` in a factor of its own.

The boundary between codes n and n + 1 is ``delta 2^(-(2n + 1) / 4)``, which no float32 equals: ``x^4 2^(2n + 1)`` has
an odd power of two where ``delta^4`` has one that four divides. So there are no ties, every rounding to nearest gives
the same code, and integers decide it: ``code > n`` where ``x^4 2^(2n + 1) < delta^4``. :meth:`LogSqrt2.code` is that
form; :meth:`LogSqrt2.quantize` compares with the smallest float32 above each boundary, found once from it. No logarithm
is computed, so codes depend on no library and are monotone.

Source: Li et al., RepQ-ViT (ICCV 2023), equations 14 to 16. Its code sets what rounds beyond ``2^b - 1`` to 0, which is
one level more than b bits hold; the paper clips. ``zero`` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_array, require_integer, require_kind

LARGEST_BITS = 8
SQRT2 = np.float32(1.41421356)
"""sqrt2 rounded to float32."""


@dataclass(frozen=True)
class LogCodes:
    """Codes and how many elements fell outside the range.

    Attributes:
        codes: uint16; ``levels - 1`` is the largest.
        clipped: elements whose code lay outside ``[0, 2^b - 1]`` before clipping, zeros and NaN included.
    """

    codes: np.ndarray
    clipped: int


@dataclass(frozen=True)
class LogSqrt2:
    """The quantizer with its parameters.

    Args:
        bits: 2 to 8.
        delta: value of code 0, a positive normal float32.
        zero: whether what rounds beyond ``2^b - 1`` is code ``2^b`` with value 0 (the released code) instead of
            ``2^b - 1`` (the paper).

    Raises:
        BadInput: other bits, or a delta that is no positive normal float32.
    """

    bits: int
    delta: np.float32 = np.float32(1)  # noqa: RUF009 - an immutable value
    zero: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", require_integer("bits", self.bits, 2, LARGEST_BITS))
        require_kind("zero", self.zero, bool)
        require_kind("delta", self.delta, (int, float, np.floating, np.integer))
        with np.errstate(over="ignore", under="ignore"):
            delta = np.float32(self.delta)
        if not (np.isfinite(delta) and delta >= np.finfo(np.float32).tiny):
            raise BadInput("delta must be a positive normal float32", got=self.delta, fix="give the largest value")
        object.__setattr__(self, "delta", delta)

    @property
    def levels(self) -> int:
        """Number of codes."""
        return 2**self.bits + self.zero

    @property
    def largest_shift(self) -> int:
        """``ceil(q / 2)`` of the largest code with a value other than 0."""
        return 2 ** (self.bits - 1)

    @property
    def odd_delta(self) -> np.float32:
        """``f32(SQRT2 delta)``: the factor of odd codes."""
        with np.errstate(over="ignore"):
            return np.float32(SQRT2 * self.delta)

    def code(self, x: float | np.float32) -> tuple[int, bool]:
        """Code of one float32, and whether it counts as clipped: the normative form, in integers.

        x <= 0 and -inf get the largest code; NaN (as in ``quantizer``) and +inf get code 0; all of them are clipped.
        """
        value = np.float32(x)
        if np.isnan(value) or value == np.inf:
            return 0, True
        if value <= 0:
            return self.levels - 1, True
        fourth, of_delta = Fraction(float(value)) ** 4, Fraction(float(self.delta)) ** 4
        q = -1
        while q < 2**self.bits and fourth * Fraction(2) ** (2 * q + 1) < of_delta:  # x lies below boundary q
            q += 1
        return max(min(q, self.levels - 1), 0), not 0 <= q < 2**self.bits

    @cached_property
    def thresholds(self) -> np.ndarray:
        """float32 (2^b + 1,): the smallest float32 above boundary n, for n = -1 (above it, x is clipped) to 2^b - 1."""
        of_delta = Fraction(float(self.delta)) ** 4

        def above(x: np.float32, n: int) -> bool:
            return Fraction(float(x)) ** 4 * Fraction(2) ** (2 * n + 1) > of_delta

        found: list[np.float32] = []
        for n in range(-1, 2**self.bits):
            with np.errstate(over="ignore", under="ignore"):
                x = np.float32(min(float(self.delta) * 2.0 ** (-(2 * n + 1) / 4), float(np.finfo(np.float32).max)))
                while x > 0 and above(x, n):
                    x = np.nextafter(x, np.float32(0))
                while np.isfinite(x) and not above(x, n):
                    x = np.nextafter(x, np.float32(np.inf))
            found.append(x)
        return np.array(found, np.float32)

    def quantize(self, x: np.ndarray) -> LogCodes:
        """Codes of a float32 array, those of :meth:`code`.

        Raises:
            BadInput: another dtype.
        """
        require_array("x", x, np.float32)
        ascending = self.thresholds[::-1]
        passed = np.searchsorted(ascending, x.reshape(-1), side="right").reshape(x.shape)  # NaN passes all
        codes = np.clip(2**self.bits - passed, 0, self.levels - 1).astype(np.uint16)
        return LogCodes(codes, int(np.count_nonzero((passed == 0) | (passed == len(ascending)))))

    @cached_property
    def values(self) -> np.ndarray:
        """float32 (levels,): ``delta`` or :attr:`odd_delta` times a power of two, exact above the subnormals."""
        q = np.arange(2**self.bits)
        with np.errstate(under="ignore"):
            values = np.ldexp(np.where(q % 2, self.odd_delta, self.delta), -((q + 1) // 2)).astype(np.float32)
        return np.append(values, np.float32(0)) if self.zero else values

    def dequantize(self, codes: np.ndarray) -> np.ndarray:
        """Values of codes, float32."""
        return np.asarray(self.values[codes])
