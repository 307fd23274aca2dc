"""Claim: ONNX Runtime's 4-bit MatMulNBits reads our packed weights and computes what its documentation says.

``y_mn = sum_k a_mk (q_nk - z) s_n,k/block``, float32, with ``z = 8`` or a stored zero point. Where every product and
partial sum is exact in float32 (integers under power-of-two scales) the result is bit-equal to the exact one, whatever
the order. Elsewhere only the order of float32 additions is free, and the difference has a bound. With ``u = 2^-24`` and
``g(n) = n u / (1 - n u)`` (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1):

- Levels 0 and 1, float32 activations: a term is rounded at most twice (weight times scale, times ``a``) and passes
  through at most ``K`` additions, so the error is at most ``g(K + 2) sum_k |a| |q - z| s``.
- Level 4, activations quantized per (row, block) to int8, ``sa = max |a| / 127``, ``qa = rint(a / sa)``: integer sums
  are exact. What is rounded: ``sa``, ``sa s``, its product with an integer sum; then additions: one per block in a
  vector lane, at most 4 to join 16 lanes, and, where the zero point is subtracted apart, one per block again and one to
  join. A term passes through at most ``2 B + 8`` roundings for ``B`` blocks, and terms are at most
  ``sa s sum_k |qa| (q + z)``, so the error is at most ``g(2 B + 8)`` times their sum.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

try:
    import onnx_nodes
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"onnxruntime or onnx is absent: {error}", allow_module_level=True)

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.packed_layouts import ONNX
from simulator.arithmetic.packing import pack

UINT4 = IntFormat(4, signed=False)
DEPTH, OUTPUTS = 384, 48
every_block = pytest.mark.parametrize("block", [32, 64, 128])
every_row_count = pytest.mark.parametrize("rows", [1, 5, 33])  # kernels for one row and for many differ
with_and_without_zeros = pytest.mark.parametrize("zeros", [False, True], ids=["zero 8", "zeros stored"])


def gamma(n):
    return n * 2.0**-24 / (1 - n * 2.0**-24)


def theirs(a, q, scale, zero, block, level):
    packed = pack(q, ONNX, UINT4).reshape(OUTPUTS, -1, block // 2)
    inputs = [a, packed, scale.reshape(-1)]
    if zero is not None:
        # each row of zero points starts a byte
        padded = np.pad(zero, ((0, 0), (0, zero.shape[1] % 2)))
        inputs.append(pack(padded, ONNX, UINT4).reshape(-1))
    return onnx_nodes.run(
        "MatMulNBits", inputs, 1, onnx_nodes.MICROSOFT,
        K=DEPTH, N=OUTPUTS, bits=4, block_size=block, accuracy_level=level,
    )  # fmt: skip


def weights(rng, block, zeros):
    q = rng.integers(0, 16, (OUTPUTS, DEPTH)).astype(np.uint8)
    zero = rng.integers(0, 16, (OUTPUTS, DEPTH // block)).astype(np.uint8) if zeros else None
    steps = q.astype(np.int64) - (8 if zero is None else np.repeat(zero.astype(np.int64), block, axis=1))
    reach = q.astype(np.int64) + (8 if zero is None else np.repeat(zero.astype(np.int64), block, axis=1))
    return q, zero, steps, reach


def quantize_rows(a, block):
    """Level 4's int8 codes and float32 scales per (row, block)."""
    blocks = a.reshape(len(a), -1, block)
    largest = np.abs(blocks).max(axis=-1)
    inverse = np.float32(127) / largest
    return np.rint(blocks * inverse[..., None]).astype(np.int64).reshape(a.shape), largest / np.float32(127)


@pytest.mark.parametrize("level", [0, 1, 4])
@every_block
@every_row_count
@with_and_without_zeros
def test_matmul_nbits__is_exact_where_float32_is(level, block, rows, zeros):
    rng = np.random.default_rng(31)
    q, zero, steps, _ = weights(rng, block, zeros)
    scale = (2.0 ** rng.integers(-3, 1, (OUTPUTS, DEPTH // block))).astype(np.float32)
    # halves are ties of level 4, whose scale per (row, block) is exactly 1: one element is 127
    a = rng.integers(-60, 60, (rows, DEPTH)) / 2
    a[:, ::block] = 127
    a = a.astype(np.float32)
    seen = np.rint(a) if level == 4 else a
    want = seen.astype(np.float64) @ (steps * np.repeat(scale.astype(np.float64), block, axis=1)).T
    assert np.abs(want).max() < 2.0**20  # with at most 4 bits behind the point: exact in float32 in every order
    assert np.count_nonzero(theirs(a, q, scale, zero, block, level) != want) == 0


@pytest.mark.parametrize("level", [0, 1, 4])
@every_block
@every_row_count
@with_and_without_zeros
def test_matmul_nbits__differs_by_the_order_of_additions_alone(level, block, rows, zeros):
    rng = np.random.default_rng(32)
    q, zero, steps, reach = weights(rng, block, zeros)
    scale = rng.uniform(0.01, 0.1, (OUTPUTS, DEPTH // block)).astype(np.float32)
    a = rng.standard_normal((rows, DEPTH)).astype(np.float32)
    wide = np.repeat(scale.astype(np.float64), block, axis=1)
    if level == 4:
        codes, a_scale = quantize_rows(a, block)
        left = codes * np.repeat(a_scale.astype(np.float64), block, axis=1)
        bound = gamma(2 * (DEPTH // block) + 8) * (np.abs(left) @ (reach * wide).T)
    else:
        left = a.astype(np.float64)
        bound = gamma(DEPTH + 2) * (np.abs(left) @ (np.abs(steps) * wide).T)
    difference = np.abs(theirs(a, q, scale, zero, block, level) - left @ (steps * wide).T)
    assert np.all(difference <= bound)
