"""Attention as two products around a softmax.

Torch runs the body of ``F.multi_head_attention_forward`` with the function mode popped. Here a copy of that very
function runs, whose only change is the answer to "has torch function?", with the mode in force: the arithmetic stays
torch's own. Under a function mode torch takes neither fused fast path (``nn.MultiheadAttention``,
``nn.TransformerEncoderLayer``, nested tensors), so these come here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samplers.errors import BadInput
from simulator.instrument.attention_parts import PROBABILITY_VALUE, QUERY_KEY, Attention
from simulator.instrument.contractions import MatMul
from simulator.instrument.products import Run, add

multi_head_attention_body = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**F.__dict__, "has_torch_function": lambda operands: False},
    "multi_head_attention_body",
    F.multi_head_attention_forward.__defaults__,
)
"""``F.multi_head_attention_forward`` that does not hand itself to the function mode again."""


def attention(
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
    """``F.scaled_dot_product_attention``: ``softmax(scale QK^T + mask) V``; a row that sees no key gives zeros.

    Grouped queries broadcast: keys and values are not repeated.

    Raises:
        BadInput: dropout, a mask beside ``is_causal``, or heads that key heads do not divide.
    """
    if dropout_p or (is_causal and attn_mask is not None):
        raise BadInput(
            "scaled_dot_product_attention is emulated without dropout, with a mask or causal",
            got=f"dropout={dropout_p}, causal={is_causal}, mask={attn_mask is not None}",
            fix="use eval mode, and one of the two",
        )
    heads, mask = query.shape[-3:-2], _mask(query, key, attn_mask, is_causal)
    if enable_gqa:
        query, key, value, mask = _grouped(query, key, value, mask)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    out = run.attention(Attention(query, key, value, factor, mask))
    return out.reshape(*out.shape[:-4], *heads, *out.shape[-2:]) if enable_gqa else out


def _mask(query: Tensor, key: Tensor, attn_mask: Tensor | None, is_causal: bool) -> Tensor | None:
    if not is_causal:
        return attn_mask
    return torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()


def _grouped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Query heads as (key heads, queries per key head), so that keys and values broadcast."""
    heads, shared = query.shape[-3], key.shape[-3]
    if heads % shared or value.shape[-3] != shared:
        raise BadInput(
            "key and value heads must divide the query heads", got=f"{heads} over {shared}", fix="check enable_gqa"
        )
    split = (shared, heads // shared)
    if mask is not None and mask.ndim >= 3:
        mask = mask.unflatten(-3, split) if mask.shape[-3] == heads else mask[..., None, :, :]
    return query.unflatten(-3, split), key[..., None, :, :], value[..., None, :, :], mask


def inside_multi_head_attention() -> dict[Callable[..., Any], Callable[..., Tensor]]:
    """Translations inside one call of the body: its first product is QK^T, its second P V."""
    remaining = [("pv", PROBABILITY_VALUE), ("qk", QUERY_KEY)]

    def bmm(run: Run, left: Tensor, right: Tensor) -> Tensor:
        operation, roles = remaining.pop()
        return run(operation, MatMul(left, right.transpose(-1, -2), roles))

    def baddbmm(run: Run, input: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return add(input, bmm(run, left, right), 1, 1)

    return {torch.bmm: bmm, torch.baddbmm: baddbmm}
