"""Nothing stays in float unseen: a dispatch mode that stops the run at any contraction outside a site.

Sums of products that torch does as one operator are contractions here: matrix products, convolutions, attention,
recurrent cells, pairwise distances, Fourier transforms, and linear algebra (solvers, factorizations). Operators of
other namespaces (custom operators, quantized ones) are opaque. Functions that torch runs as one (recurrent cells,
cdist) are stopped by the function mode already, under their own names. Elementwise products, reductions,
interpolation, outer products and gathers are not contractions; a product and a sum written as two operators cannot be
told from them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode, _pop_mode_temporarily

from simulator.instrument.allowance import Allowance, UncoveredContraction
from simulator.instrument.sites import ModuleStack

__all__ = ["Audit", "UncoveredContraction", "at_site", "contracts", "inside_site"]

# fmt: off
_NAMES = frozenset((
    "linear", "bilinear", "_trilinear", "einsum", "tensordot", "inner", "dot", "vdot", "mv", "addmv", "cov",
    "corrcoef", "cdist", "_cdist_forward", "_euclidean_dist", "pdist", "_pdist_forward",
    "lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", "quantized_lstm",
    "quantized_gru", "stft", "istft", "inverse", "pinverse", "det", "logdet", "slogdet", "svd", "qr", "geqrf", "orgqr",
    "ormqr", "lu_solve", "triangular_solve", "cholesky", "cholesky_inverse", "cholesky_solve",
    "_cholesky_solve_helper", "_lu_with_info", "_compute_linear_combination", "_spsolve",
))
# every operator whose name holds one of these words, but for the few in _HARMLESS
_WORDS = (
    "mm", "matmul", "conv", "attention", "multi_head", "transformer", "fft_", "linalg_", "matrix_exp", "matrix_power",
    "multi_dot", "_rnn", "_lstm", "_gru", "_linear", "sparse_semi_structured", "chain_",
)
_HARMLESS = frozenset((
    "linalg_vector_norm", "linalg_norm", "linalg_cross", "linalg_diagonal", "linalg__powsum", "linalg_vander",
    "_linalg_check_errors", "fft_fftshift", "fft_ifftshift", "fft_fftfreq", "fft_rfftfreq", "cummax", "cummin",
    "_cummax_helper", "_cummin_helper", "hamming_window", "_convert_indices_from_coo_to_csr",
    "_convert_indices_from_csr_to_coo", "_nested_get_jagged_dummy",
))
# fmt: on
_TRANSPARENT = frozenset(("aten", "prim", "prims", "profiler"))

_state = threading.local()


@cache
def contracts(operation: str) -> bool:
    """Whether the aten operator of this name contracts."""
    name = operation.removesuffix("_")
    if name in _HARMLESS or name.startswith("upsample"):
        return False
    return name in _NAMES or any(word in name.replace("gamma", "") for word in _WORDS)


@contextmanager
def inside_site() -> Iterator[None]:
    """Mark what runs inside as covered by a site. The audit, if it is the innermost mode, is off meanwhile."""
    before = getattr(_state, "inside", False)
    _state.inside = True
    off = isinstance(_get_current_dispatch_mode(), Audit)
    try:
        with _pop_mode_temporarily() if off else nullcontext():
            yield
    finally:
        _state.inside = before


def at_site() -> bool:
    """Whether a site's own computation is running on this thread."""
    return getattr(_state, "inside", False)


class Audit(TorchDispatchMode):
    """Let ``allowance`` judge every contraction and every opaque operator outside a site."""

    def __init__(self, stack: ModuleStack, allowance: Allowance | None = None) -> None:
        super().__init__()
        self._stack, self._allowance = stack, allowance or Allowance()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would import its compiler (seconds) to keep it away from this mode; nothing here is ever compiled
        return False

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: tuple = (), kwargs: dict | None = None) -> Any:
        """Called by torch for each operator that reaches the dispatcher; higher-order ones torch refuses itself."""
        if at_site():
            return func(*args, **(kwargs or {}))
        operation = func.overloadpacket.__name__
        if func.namespace not in _TRANSPARENT:
            self._allowance.let_through(f"{func.namespace}::{operation}", self._stack.path, opaque=True)
        elif contracts(operation):
            self._allowance.let_through(f"aten::{operation}", self._stack.path)
        elif func._can_decompose():  # in inference mode composite operators arrive whole: look inside
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
