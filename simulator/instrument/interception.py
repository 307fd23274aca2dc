"""Turn torch calls into named contractions.

A function mode sees each call before torch decomposes it. The table below maps a torch function to the contraction it
is; a handler then decides what to do with it (observe, keep, emulate). Calls that are not in the table run as they
are; if one of them contains a contraction, the audit (``audit.py``) stops the run and names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from samplers.errors import BadInput
from simulator.instrument.audit import inside_site
from simulator.instrument.contractions import Contraction, Conv2d, Linear, MatMul
from simulator.instrument.sites import ModuleStack, SiteKey


class Handler(Protocol):
    """What happens at a site."""

    def __call__(self, site: SiteKey, contraction: Contraction, /) -> Tensor:
        """Return the contraction's result."""
        ...


class Interceptor(TorchFunctionMode):
    """Route every contraction of the code under it through ``handler``."""

    def __init__(self, handler: Handler, stack: ModuleStack) -> None:
        super().__init__()
        self._handler, self._stack = handler, stack

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Called by torch for each function; contractions go to the handler."""
        translate = _TABLE.get(func)
        if translate is None:
            return func(*args, **(kwargs or {}))
        return translate(self._run, *args, **(kwargs or {}))

    def _run(self, operation: str, contraction: Contraction) -> Tensor:
        site = self._stack.next_site(operation)
        for tensor in contraction.operands():
            if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
                raise BadInput(
                    "operands must be float32 on the CPU",
                    got=f"{tensor.dtype} on {tensor.device} at {site}",
                    fix="convert the model with .float().cpu()",
                )
        with inside_site():
            return self._handler(site, contraction)


Run = Callable[[str, Contraction], Tensor]


def _linear(run: Run, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return run("linear", Linear(input, weight, bias))


def _conv2d(
    run: Run,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if input.ndim != 4 or isinstance(padding, str) or _pair(dilation) != (1, 1) or groups != 1:
        raise BadInput(
            "conv2d is emulated for batches, with numeric padding, dilation 1 and groups 1",
            got=f"rank {input.ndim}, padding={padding}, dilation={dilation}, groups={groups}",
            fix="use such a convolution, or a later version",
        )
    return run("conv2d", Conv2d(input, weight, bias, _pair(stride), _pair(padding)))


def _pair(value: Any) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    return pair * 2 if len(pair) == 1 else pair


def _matmul(run: Run, left: Tensor, right: Tensor) -> Tensor:
    if left.ndim < 2 or right.ndim < 2:
        raise BadInput(
            "matmul is emulated on operands of rank 2 or more", got=f"{left.ndim} and {right.ndim}", fix="add an axis"
        )
    leading = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left, right = left.expand(*leading, *left.shape[-2:]), right.expand(*leading, *right.shape[-2:])
    return run("matmul", MatMul(left, right.transpose(-1, -2), ("left", "right")))


def _attention(
    run: Run,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None or dropout_p or is_causal or enable_gqa:
        raise BadInput(
            "scaled_dot_product_attention is emulated without mask, dropout, causality or grouped queries",
            got=f"mask={attn_mask is not None}, dropout={dropout_p}, causal={is_causal}, grouped queries={enable_gqa}",
            fix="use plain attention, or a later version",
        )
    scores = run("qk", MatMul(query, key, ("query", "key")))
    scores = scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    return run("pv", MatMul(torch.softmax(scores, dim=-1), value.transpose(-1, -2), ("probability", "value")))


_TABLE: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.linear: _linear,
    F.conv2d: _conv2d,
    torch.conv2d: _conv2d,
    F.scaled_dot_product_attention: _attention,
    torch.matmul: _matmul,
    torch.bmm: _matmul,
    Tensor.matmul: _matmul,
    Tensor.__matmul__: _matmul,
    Tensor.bmm: _matmul,
}
