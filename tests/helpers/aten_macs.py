"""Multiply-accumulates of a plain module, counted from the aten operators that torch really runs.

Nothing here knows modules, sites or function modes. An operator that contracts and is not listed is an error.
"""

from __future__ import annotations

import re
from math import prod

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_CONTRACTS = re.compile(
    r"mm|matmul|linear(?!1d)|conv|attention|einsum|dot|bilinear|transformer|multi_head|lstm|gru|rnn"
)
_NONE = {"upsample_bilinear2d", "upsample_trilinear3d", "resolve_conj", "_convert_indices_from_coo_to_csr"}


class AtenMacs(TorchDispatchMode):
    """Sums multiply-accumulates in ``total``; run it under ``no_grad``, where composite operators arrive as parts."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.total += macs(func.overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))


def macs(name: str, args: tuple) -> int:
    """Multiply-accumulates of one operator."""
    if name in ("mm", "bmm"):
        return args[0].numel() * args[1].shape[-1]
    if name in ("addmm", "baddbmm"):
        return args[1].numel() * args[2].shape[-1]
    if name == "convolution":
        x, weight, _, stride, padding, dilation, transposed = args[:7]
        if transposed:
            return x.numel() * prod(weight.shape[1:])
        sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
        return x.shape[0] * weight.numel() * prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
    if name == "_scaled_dot_product_flash_attention_for_cpu":
        query, key, value = args[:3]
        return query.numel() * key.shape[-2] + query.shape[:-1].numel() * value.shape[-2:].numel()
    if name == "_native_multi_head_attention":
        batch, rows, width = args[0].shape
        return 4 * batch * rows * width**2 + 2 * batch * rows**2 * width
    if name == "_transformer_encoder_layer_fwd":
        batch, rows, width = args[0].shape
        hidden = args[14].shape[0]
        return 4 * batch * rows * width**2 + 2 * batch * rows**2 * width + 2 * batch * rows * width * hidden
    assert not _CONTRACTS.search(name) or name in _NONE, name
    return 0


def aten_macs(module: torch.nn.Module, *args, call=None) -> int:
    """Multiply-accumulates of one plain forward pass."""
    with torch.no_grad(), AtenMacs() as count:
        (call or (lambda module, *args: module(*args)))(module, *args)
    return count.total
