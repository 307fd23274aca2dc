"""Matrix products of every spelling as Linear or MatMul.

A product with a parameter or buffer on either side is a Linear: its weight is quantized per output channel, once.
Between two run-time operands it is a MatMul. Scaling and adding (``beta``, ``alpha``) stay elementwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.instrument.attention_parts import Attention
from simulator.instrument.contractions import Contraction, Linear, MatMul


class Run(Protocol):
    """Runs contractions at named sites."""

    def __call__(self, operation: str, contraction: Contraction, /) -> Tensor:
        """The contraction's result at the next site of ``operation``."""
        ...

    def attention(self, operation: Attention, /) -> Tensor:
        """The attention's result, its products at the next sites of ``qk`` and ``pv``."""
        ...

    def is_constant(self, tensor: Tensor, /) -> bool:
        """Whether the tensor shares memory with a parameter or buffer."""
        ...


def product(run: Run, operation: str, left: Tensor, right: Tensor) -> Tensor:
    """``left (..., rows, depth) @ right (..., columns, depth).T``; leading axes broadcast.

    Complex operands are four real products at sites ``operation.real_real``, ``.imag_imag``, ``.real_imag`` and
    ``.imag_real``, left part first.
    """
    if left.is_complex() and right.is_complex():
        return _complex(run, operation, left, right)
    leading = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    if (weight := _matrix(run, right)) is not None:
        out = run(operation, Linear(left, weight, None))
        return out.expand(*leading, *out.shape[-2:])
    if (weight := _matrix(run, left)) is not None:
        out = run(operation, Linear(right, weight, None)).transpose(-1, -2)
        return out.expand(*leading, *out.shape[-2:])
    return run(operation, MatMul(left, right, ("left", "right")))


def _matrix(run: Run, operand: Tensor) -> Tensor | None:
    """The operand's one matrix, if it is constant: a weight expanded over leading axes arrives with stride 0."""
    leading = range(operand.ndim - 2)
    if not run.is_constant(operand) or any(operand.shape[i] != 1 and operand.stride(i) != 0 for i in leading):
        return None
    return operand[(0,) * len(leading)] if operand.numel() else None


def _complex(run: Run, operation: str, left: Tensor, right: Tensor) -> Tensor:
    (a, b), (c, d) = _parts(left), _parts(right)
    real = product(run, f"{operation}.real_real", a, c) - product(run, f"{operation}.imag_imag", b, d)
    imag = product(run, f"{operation}.real_imag", a, d) + product(run, f"{operation}.imag_real", b, c)
    return torch.complex(real, imag)


def _parts(operand: Tensor) -> tuple[Tensor, Tensor]:
    whole = operand.resolve_conj()
    return whole.real, whole.imag.resolve_neg()


def linear(run: Run, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``: the weight is one even where it was computed in the forward pass."""
    if weight.ndim == 1:
        return run("linear", Linear(input, weight[None], bias if bias is None else bias.reshape(1))).squeeze(-1)
    return run("linear", Linear(input, weight, bias))


def matmul(run: Run, input: Tensor, other: Tensor) -> Tensor:
    """``torch.matmul`` and its kin, vectors included."""
    return _matmul(run, "matmul", input, other)


def reflected(run: Run, self: Tensor, other: Tensor) -> Tensor:
    """``other @ self``."""
    return _matmul(run, "matmul", other, self)


def matrices(run: Run, input: Tensor, mat2: Tensor) -> Tensor:
    """``torch.mm`` and ``torch.bmm``."""
    return _matmul(run, "matmul", input, mat2)


def vector(run: Run, input: Tensor, vec: Tensor) -> Tensor:
    """``torch.mv``."""
    return _matmul(run, "matmul", input, vec)


def dot(run: Run, input: Tensor, tensor: Tensor) -> Tensor:
    """``torch.dot``."""
    return _matmul(run, "matmul", input, tensor)


def vdot(run: Run, input: Tensor, other: Tensor) -> Tensor:
    """``torch.vdot``, which conjugates its first operand."""
    return _matmul(run, "matmul", input.conj(), other)


def vecdot(run: Run, x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """``torch.linalg.vecdot``."""
    x, y = (t.movedim(dim, -1)[..., None, :] for t in (x.conj(), y))
    return product(run, "matmul", x, y)[..., 0, 0]


def inner(run: Run, input: Tensor, other: Tensor) -> Tensor:
    """``torch.inner``: last axis with last axis; a scalar scales."""
    if not input.ndim or not other.ndim:
        return input * other
    found = product(run, "matmul", input.reshape(-1, input.shape[-1]), other.reshape(-1, other.shape[-1]))
    return found.reshape((*input.shape[:-1], *other.shape[:-1]))


def multi_dot(run: Run, tensors: Sequence[Tensor]) -> Tensor:
    """``torch.linalg.multi_dot``, from left to right."""
    first, *rest = tensors
    for tensor in rest:
        first = _matmul(run, "matmul", first, tensor)
    return first


def chain_matmul(run: Run, *matrices: Tensor) -> Tensor:
    """``torch.chain_matmul``, from left to right."""
    return multi_dot(run, matrices)


def addmm(run: Run, input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta input + alpha mat1 @ mat2``; a vector added to a product with a weight is that layer's bias."""
    if _is_layer(run, input, mat2) and beta == alpha == 1:
        return run("addmm", Linear(mat1, mat2.transpose(0, 1), input))
    return add(input, _matmul(run, "addmm", mat1, mat2), beta, alpha)


def addmv(run: Run, input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta input + alpha mat @ vec``."""
    return add(input, _matmul(run, "addmv", mat, vec), beta, alpha)


def baddbmm(run: Run, input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta input + alpha batch1 @ batch2``."""
    return add(input, _matmul(run, "baddbmm", batch1, batch2), beta, alpha)


def addbmm(run: Run, input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta input + alpha sum_b batch1_b @ batch2_b``: one product whose depth is batch times depth."""
    left = batch1.transpose(0, 1).flatten(1)
    right = batch2.flatten(0, 1).transpose(0, 1)
    return add(input, product(run, "addbmm", left, right), beta, alpha)


def bilinear(run: Run, input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.bilinear``: a linear layer of the first input, then a product of each sample's matrix with the second."""
    outputs, first, second = weight.shape
    rows = run("bilinear", Linear(input1, weight.transpose(1, 2).reshape(outputs * second, first), None))
    rows = rows.unflatten(-1, (outputs, second))
    out = product(run, "bilinear", rows, input2[..., None, :])[..., 0]
    return out if bias is None else out + bias


def add(input: Tensor, found: Tensor, beta: Any, alpha: Any) -> Tensor:
    """``beta input + alpha found``; with ``beta`` 0 the input is not read, whatever it holds.

    Raises:
        BadInput: ``input`` is no tensor (torch's deprecated order of arguments).
    """
    if not isinstance(input, Tensor):
        raise BadInput("the added tensor comes first", got=type(input).__name__, fix="pass beta and alpha by keyword")
    scaled = found if alpha == 1 else found * alpha
    if beta == 0:
        return scaled
    return (input if beta == 1 else input * beta) + scaled


def _is_layer(run: Run, bias: Tensor, weight: Tensor) -> bool:
    vector = isinstance(bias, Tensor) and bias.ndim == 1 and len(bias) == weight.shape[-1]
    return vector and bias.dtype == torch.float32 and run.is_constant(weight)


def _matmul(run: Run, operation: str, left: Tensor, right: Tensor) -> Tensor:
    rows = left[None] if left.ndim == 1 else left
    columns = right[None] if right.ndim == 1 else right.transpose(-1, -2)
    out = product(run, operation, rows, columns)
    if right.ndim == 1:
        out = out[..., 0]
    return out if left.ndim > 1 else out[..., 0, :] if right.ndim > 1 else out[..., 0]
