"""Float results rounded to a narrower format after every operation, as a machine with float16 tensors keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from simulator.arithmetic.float_formats import BFLOAT16, FLOAT16, FLOAT32, FloatFormat
from simulator.instrument.audit import at_site

_DTYPES = {FLOAT16: torch.float16, BFLOAT16: torch.bfloat16}


class _Rounding(TorchDispatchMode):
    """Rounds the float32 results of each aten operator, views aside, in place."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if at_site():
            return func(*args, **kwargs)
        if func._can_decompose():  # in inference mode composite operators arrive whole, and may return an argument
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if func.is_view or torch.Tag.inplace_view in func.tags:
            return result
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.complex64:
                tensor = torch.view_as_real(tensor)
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float32:
                tensor.copy_(tensor.to(self._dtype))
        return result


def rounding(format: FloatFormat) -> AbstractContextManager[Any]:
    """A block whose float32 results are rounded to ``format``, ties to even; beyond its range they are infinite.

    The tensors stay float32; complex results are rounded part by part. A site's inner arithmetic is its machine's own;
    what leaves the site is rounded by :func:`rounded`. Fused operators (layer norm, softmax, GELU) are one operation
    each, as their kernels round once. Constants, conditions, and what runs under ``allow_float`` or as one function
    (recurrent cells) are not rounded.
    """
    return nullcontext() if format == FLOAT32 else _Rounding(_DTYPES[format])


def rounded(tensor: Tensor, format: FloatFormat) -> Tensor:
    """A tensor of values of ``format``."""
    return tensor if format == FLOAT32 else tensor.to(_DTYPES[format]).to(torch.float32)
