"""What every requantizer is: a scalar form that defines it, and a compiled call on arrays of the same codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import is_integer, require_integer, require_output
from simulator.arithmetic.fixed_point import INT32_MAX, INT32_MIN
from simulator.arithmetic.formats import IntFormat


@dataclass(frozen=True)
class Requantized:
    """Output codes.

    Attributes:
        codes: in the format's dtype, the shape of the sums.
        saturated: how many codes clipping changed.
    """

    codes: np.ndarray
    saturated: int


@runtime_checkable
class Requantizer(Protocol):
    """Turns int32 sums into codes of ``format``."""

    @property
    def format(self) -> IntFormat:
        """Format of the codes."""
        ...

    def one(self, acc: int, channel: int = 0) -> tuple[int, bool]:
        """Code of one sum, and whether clipping changed it: the normative form."""
        ...

    def __call__(self, acc: np.ndarray, *, out: np.ndarray | None = None) -> Requantized:
        """Codes of int32 sums (..., channels), written to ``out`` where given."""
        ...


class TwoForms(ABC):
    """What all formulas share: clip, count, and check the array of sums."""

    format: IntFormat
    LARGEST_BITS: ClassVar[int] = 16
    """Widest output format; less where the kernel packs its codes through a narrow register."""

    @property
    @abstractmethod
    def channels(self) -> int | None:
        """Channels that the parameters fix, None if any number will do."""

    @abstractmethod
    def code(self, acc: int, channel: int) -> int:
        """The code before clipping."""

    @abstractmethod
    def _run(self, acc: np.ndarray, out: np.ndarray) -> int:
        """Fill ``out`` from ``acc``, both (rows, channels); return the number of saturated codes."""

    def one(self, acc: int, channel: int = 0) -> tuple[int, bool]:
        """Code of one int32 sum, and whether clipping changed it: the normative form.

        Raises:
            BadInput: not an integer that fits int32, or no such channel.
        """
        if not (is_integer(acc) and INT32_MIN <= acc <= INT32_MAX):
            raise BadInput(
                "acc must be an integer that fits int32", got=repr(acc), fix="keep the exact sum inside int32"
            )
        require_integer("channel", channel)
        if channel < 0 or (self.channels is not None and channel >= self.channels):
            raise BadInput("channel must exist", got=channel, fix=f"this requantizer has {self.channels} channels")
        with np.errstate(over="ignore", under="ignore"):
            code = self.code(int(acc), channel)
        clipped = min(max(code, self.format.qmin), self.format.qmax)
        return clipped, clipped != code

    def __call__(self, acc: np.ndarray, *, out: np.ndarray | None = None) -> Requantized:
        """Codes of sums, compiled; equal to ``one`` on every element.

        Args:
            acc: int32 (..., channels).
            out: C-contiguous array of the format's dtype and the shape of ``acc``, allocated if absent.

        Raises:
            BadInput: another dtype, no axis, or another number of channels than the scales and bias have.
        """
        if not isinstance(acc, np.ndarray) or acc.dtype != np.int32 or acc.ndim == 0:
            got = f"{acc.dtype} {acc.shape}" if isinstance(acc, np.ndarray) else type(acc).__name__
            raise BadInput("acc must be an int32 array (..., channels)", got=got, fix="accumulate in int32")
        if self.channels not in (None, acc.shape[-1]):
            raise BadInput(f"acc must have {self.channels} channels last", got=acc.shape, fix="move the channel axis")
        out = require_output(out, acc.shape, self.format.dtype)
        if not acc.size:
            return Requantized(out, 0)
        rows = (-1, acc.shape[-1])
        with np.errstate(over="ignore", under="ignore"):
            saturated = self._run(np.ascontiguousarray(acc).reshape(rows), out.reshape(rows))
        return Requantized(out, int(saturated))
