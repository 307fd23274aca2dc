"""Nothing stays in float unseen: a dispatch mode that stops the run at any contraction outside a site."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from samplers.errors import QnoiseError
from simulator.instrument.sites import ModuleStack

# fmt: off
_CONTRACTIONS = frozenset((
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "matmul", "linear", "mv", "addmv", "dot", "vdot", "addr", "outer",
    "einsum", "tensordot", "inner", "linalg_vecdot", "_addmm_activation", "conv_tbc", "_int_mm", "_scaled_mm",
    "bilinear", "_trilinear", "cdist", "_cdist_forward",
    "convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "mkldnn_linear",
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "_conv_depthwise2d", "thnn_conv2d", "slow_conv3d", "slow_conv_transpose2d", "slow_conv_transpose3d",
    "scaled_dot_product_attention", "_scaled_dot_product_attention_math", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_efficient_attention",
    "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
    "lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell",
    "rnn_tanh_cell", "rnn_relu_cell", "mkldnn_rnn_layer", "quantized_lstm",
))
# fmt: on

_state = threading.local()


class UncoveredContraction(QnoiseError, RuntimeError):
    """A contraction ran that no site covers, so part of the network would have stayed in float."""

    def __init__(self, operation: str, module: str) -> None:
        self.operation, self.module = operation, module
        super().__init__(
            f"every contraction must run at a site, got aten::{operation} in module {module or '(root)'!r}; "
            "write it with torch.matmul, F.linear, F.conv2d or F.scaled_dot_product_attention"
        )


@contextmanager
def inside_site() -> Iterator[None]:
    """Mark what runs inside as covered by a site."""
    before = getattr(_state, "inside", False)
    _state.inside = True
    try:
        yield
    finally:
        _state.inside = before


class Audit(TorchDispatchMode):
    """Raise :class:`UncoveredContraction` at the first contraction outside a site."""

    def __init__(self, stack: ModuleStack) -> None:
        super().__init__()
        self._stack = stack

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would import its compiler (seconds) to keep it away from this mode; nothing here is ever compiled
        return False

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: tuple = (), kwargs: dict | None = None) -> Any:
        """Called by torch for each operator that reaches the dispatcher."""
        if getattr(_state, "inside", False):
            return func(*args, **(kwargs or {}))
        operation = func.overloadpacket.__name__
        if operation.removesuffix("_") in _CONTRACTIONS:
            raise UncoveredContraction(operation, self._stack.path)
        if func._can_decompose():  # in inference mode composite operators arrive whole: look inside
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
