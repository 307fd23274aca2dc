"""Which torch function is which contraction: one table from functions to their translations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from simulator.instrument import products
from simulator.instrument.attention import attention
from simulator.instrument.convolutions import conv, conv_tbc, conv_transpose, convolution
from simulator.instrument.einsum import einsum, tensordot

Translation = Callable[..., Tensor]
"""Called with a Run and the torch function's own arguments."""


def _entries() -> dict[Callable[..., Any], Translation]:
    table: dict[Callable[..., Any], Translation] = {
        F.linear: products.linear,
        F.scaled_dot_product_attention: attention,
        F.bilinear: products.bilinear,
        torch.bilinear: products.bilinear,
        torch.einsum: einsum,
        torch.tensordot: tensordot,
        torch.convolution: convolution,
        torch.conv_tbc: conv_tbc,
        torch.linalg.vecdot: products.vecdot,
        torch.linalg.multi_dot: products.multi_dot,
        torch.chain_matmul: products.chain_matmul,
        torch.linalg.matmul: products.matmul,
        Tensor.__matmul__: products.matmul,
        Tensor.__rmatmul__: products.reflected,
    }
    for axes in (1, 2, 3):
        for name, convolve in ((f"conv{axes}d", conv(axes)), (f"conv_transpose{axes}d", conv_transpose(axes))):
            table[getattr(F, name)] = table[getattr(torch, name)] = convolve
    named: dict[str, Translation] = {
        "matmul": products.matmul, "mm": products.matrices, "bmm": products.matrices, "mv": products.vector,
        "dot": products.dot, "vdot": products.vdot, "inner": products.inner, "addmm": products.addmm,
        "addmv": products.addmv, "baddbmm": products.baddbmm, "addbmm": products.addbmm,
    }  # fmt: skip
    for name, translation in named.items():
        table[getattr(torch, name)] = table[getattr(Tensor, name)] = translation
        if hasattr(Tensor, f"{name}_"):
            table[getattr(Tensor, f"{name}_")] = _in_place(translation)
    return table


def _in_place(translation: Translation) -> Translation:
    def translate(run: products.Run, self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return self.copy_(translation(run, self, *args, **kwargs))

    return translate


TRANSLATIONS = _entries()

LEAVES_TORCH = frozenset((Tensor.numpy, Tensor.__array__, Tensor.__dlpack__))
"""What happens to a tensor after these, torch cannot see."""

AS_ONE = frozenset(
    (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu, torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell,
     torch.rnn_relu_cell, torch.cdist, torch.pdist, torch.stft, torch.istft, torch._native_multi_head_attention,
     torch._transformer_encoder_layer_fwd)
)  # fmt: skip
"""Functions with contractions inside that are judged as one, under the name by which they were called."""
