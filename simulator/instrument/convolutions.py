"""Convolutions of every spelling as Conv or ConvTranspose."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from torch import Tensor

from samplers.errors import BadInput
from simulator.arithmetic.geometry import Geometry
from simulator.instrument.contractions import Contraction, Conv, ConvTranspose
from simulator.instrument.products import Run


def conv(axes: int) -> Callable[..., Tensor]:
    """Translation of ``F.conv1d``, ``conv2d`` or ``conv3d``."""

    def translate(
        run: Run,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        pad = padding if isinstance(padding, str) else _numbers(padding, axes)
        geometry = _geometry(
            _numbers(stride, axes), pad, _numbers(dilation, axes), groups, _numbers(weight.shape[2:], axes), axes
        )
        return _batched(run, f"conv{axes}d", input, axes, lambda x: Conv(x, weight, bias, geometry))

    return translate


def conv_transpose(axes: int) -> Callable[..., Tensor]:
    """Translation of ``F.conv_transpose1d``, ``conv_transpose2d`` or ``conv_transpose3d``."""

    def translate(
        run: Run,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        pads = tuple((n, n) for n in _numbers(padding, axes))
        geometry = Geometry(_numbers(stride, axes), pads, _numbers(dilation, axes), groups)
        extra = _numbers(output_padding, axes)
        return _batched(
            run, f"conv_transpose{axes}d", input, axes, lambda x: ConvTranspose(x, weight, bias, geometry, extra)
        )

    return translate


def convolution(
    run: Run,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor:
    """``torch.convolution``."""
    axes = weight.ndim - 2
    if transposed:
        return conv_transpose(axes)(run, input, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(axes)(run, input, weight, bias, stride, padding, dilation, groups)


def conv_tbc(run: Run, input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """``torch.conv_tbc``: input (time, batch, channel), weight (tap, channel, output)."""
    out = conv(1)(run, input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return out.permute(2, 0, 1)


def _batched(
    run: Run, operation: str, input: Tensor, axes: int, contraction: Callable[[Tensor], Contraction]
) -> Tensor:
    """Run on a batch; an input without a batch axis is a batch of one."""
    if input.ndim == axes + 1:
        return run(operation, contraction(input[None]))[0]
    if input.ndim != axes + 2:
        raise BadInput(f"{operation} takes {axes} spatial axes", got=tuple(input.shape), fix="check the input's rank")
    return run(operation, contraction(input))


def _numbers(value: Any, axes: int) -> tuple[int, ...]:
    numbers = (value,) if isinstance(value, int) else tuple(int(n) for n in value)
    return numbers * axes if len(numbers) == 1 else numbers


@lru_cache(maxsize=1024)
def _geometry(
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    kernel: tuple[int, ...],
    axes: int,
) -> Geometry:
    """Cached: checking a geometry takes as long as a small convolution's bookkeeping.

    Of an odd total, "same" puts the larger part after, as torch does.
    """
    if isinstance(padding, tuple):
        return Geometry(stride, tuple((n, n) for n in padding), dilation, groups)
    if padding == "valid":
        return Geometry(stride, ((0, 0),) * axes, dilation, groups)
    if padding == "same":
        totals = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return Geometry(stride, tuple((total // 2, total - total // 2) for total in totals), dilation, groups)
    raise BadInput("padding must be numbers, same or valid", got=repr(padding), fix="choose one")
