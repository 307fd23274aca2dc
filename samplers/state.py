"""How a sampler's state is held and combined: the one place where the arithmetic of an update is chosen.

A sampler writes each update as linear combinations and leaves their rounding to a :class:`State`. The floating-point
states are here; a state that rounds to fewer bits is another class with these three members, and no sampler changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, SupportsFloat, runtime_checkable

import torch
from torch import Tensor

from samplers.errors import BadInput


@runtime_checkable
class State(Protocol):
    """Number format and arithmetic of x_t and of everything an update combines it with."""

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype that carries the state."""
        ...

    def cast(self, tensor: Tensor) -> Tensor:
        """Bring a tensor of any floating dtype and shape into the state's format."""
        ...

    def combine(
        self, coefficients: Sequence[SupportsFloat], tensors: Sequence[Tensor | None], divisor: SupportsFloat = 1.0
    ) -> Tensor:
        """Return (sum_i coefficients[i] * tensors[i]) / divisor.

        Products are summed from left to right, and then divided once; every operation is rounded in the state's dtype.
        The tensor of a coefficient 0 is not read and may be None.

        Raises:
            BadInput: every coefficient is 0.
        """
        ...


@dataclass(frozen=True)
class _FloatState:
    """A state in one of torch's floating dtypes."""

    dtype: ClassVar[torch.dtype]

    def cast(self, tensor: Tensor) -> Tensor:
        """Round to the dtype, ties to even; no copy of a tensor that has it."""
        return tensor.to(self.dtype)

    def combine(
        self, coefficients: Sequence[SupportsFloat], tensors: Sequence[Tensor | None], divisor: SupportsFloat = 1.0
    ) -> Tensor:
        """Combine in the dtype, coefficients and divisor rounded to it first; see :meth:`State.combine`."""
        return _combine(self.dtype, coefficients, tensors, divisor)


class Float64State(_FloatState):
    """State in float64. The default: its rounding, about 1e-16 relative per operation, lies below what is measured."""

    dtype = torch.float64


class Float32State(_FloatState):
    """State in float32. With a schedule of ``tables="float32"`` each step is bit-equal to diffusers on CPU."""

    dtype = torch.float32


class Float16State(_FloatState):
    """State in float16, as pipelines in half precision keep it; beyond 65504 it is infinite."""

    dtype = torch.float16


class BFloat16State(_FloatState):
    """State in bfloat16: float32's range, 8 significant bits."""

    dtype = torch.bfloat16


def state_config(state: State) -> str | dict[str, object]:
    """A state as plain values: the name of its class, with its settings where it has any."""
    settings = dict(vars(state))
    return {"name": type(state).__name__, **settings} if settings else type(state).__name__


FLOAT64 = Float64State()
"""The default state."""


def _combine(
    dtype: torch.dtype,
    coefficients: Sequence[SupportsFloat],
    tensors: Sequence[Tensor | None],
    divisor: SupportsFloat,
) -> Tensor:
    total: Tensor | None = None
    for coefficient, tensor in zip(map(float, coefficients), tensors, strict=True):
        if coefficient == 0:
            continue
        if tensor is None or tensor.dtype != dtype:
            raise BadInput(
                f"combine needs a {dtype} tensor for every coefficient other than 0",
                got=f"{None if tensor is None else tensor.dtype} for coefficient {coefficient}",
                fix="pass the tensor through state.cast first; noise may be None only where its coefficient is 0",
            )
        # Multiply, then add: torch.add(alpha=...) and addcmul fuse the two and would round once instead of twice.
        # A Python number times a half-precision tensor would be used in float32.
        term = float(torch.tensor(coefficient, dtype=dtype)) * tensor
        total = term if total is None else total + term
    if total is None:
        raise BadInput("combine needs a coefficient other than 0", got=list(coefficients), fix="drop the call")
    if float(divisor) == 1:
        return total
    # A tensor divisor on the same device: by a Python number, CUDA multiplies by the rounded reciprocal instead.
    return total / torch.tensor(float(divisor), dtype=dtype, device=total.device)
