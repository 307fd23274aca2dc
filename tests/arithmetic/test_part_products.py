"""Claim: a batched matmul in parts has the bits of the whole, whichever matrix each batch meets."""

from __future__ import annotations

import numpy as np
import pytest

from samplers.errors import BadInput
from simulator.arithmetic import contract
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.operands import ScaledFormat, quantize_matrices
from simulator.arithmetic.part_products import PartProducts
from simulator.arithmetic.quantizer import QuantSpec

SPECS = {"unsigned": IntFormat(8, signed=False), "signed": IntFormat(8), "four bits": IntFormat(4)}


def how(name: str, zero: int) -> ScaledFormat:
    return ScaledFormat(QuantSpec(SPECS[name]), np.float32(0.02), zero)


def problem(rows: int, columns: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows * columns + depth)
    return (rng.normal(size=(4, n, depth)).astype(np.float32) for n in (rows, columns))


@pytest.mark.parametrize("left_format", SPECS)
@pytest.mark.parametrize("right_format", SPECS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 6), (70, 33, 9), (130, 65, 40)])
def test_part_products__are_the_batched_matmul(shape, left_format, right_format):
    x, w = problem(*shape)
    left_how, right_how = how(left_format, 3), how(right_format, 5)
    left, right = quantize_matrices(x, left_how, side="left"), quantize_matrices(w, right_how, side="right")
    products = PartProducts(right, left_how)
    for numbers in (np.arange(4), np.array([2, 0]), np.array([1, 1, 3]), np.array([3])):
        chosen = quantize_matrices(w[numbers], right_how, side="right")
        part = quantize_matrices(x[: len(numbers)], left_how, side="left")
        want = contract.batched_matmul(part, chosen)
        out, again = np.full_like(want, np.nan), np.full_like(want, np.nan)
        products.multiply(left.bytes[: len(numbers)], numbers, out)
        clipped = products.quantize_and_multiply(x[: len(numbers)], numbers, again)
        assert out.tobytes() == want.tobytes() == again.tobytes()
        assert clipped == part.clipped


def test_part_products__refuse_what_does_not_fit():
    x, w = problem(5, 7, 6)
    left, right = (
        quantize_matrices(x, how("signed", 0), side="left"),
        quantize_matrices(w, how("signed", 0), side="right"),
    )
    products, out = PartProducts(right, how("signed", 0)), np.empty((4, 5, 7), np.float32)
    for codes, numbers, into in (
        (left.bytes.view(np.int8), np.arange(4), out),
        (left.bytes[..., :5], np.arange(4), out),
        (left.bytes[:, ::2], np.arange(4), out[:, ::2]),
        (left.bytes, np.arange(3), out),
        (left.bytes, np.array([0, 1, 2, 4]), out),
        (left.bytes, np.array([-1, 1, 2, 3]), out),
        (left.bytes, np.arange(4.0), out),
        (left.bytes, np.arange(4), out[:, :, :6]),
        (left.bytes, np.arange(4), out.astype(np.float64)),
    ):
        with pytest.raises(BadInput):
            products.multiply(codes, numbers, into)
    with pytest.raises(BadInput, match="signed bytes"):
        PartProducts(left, how("signed", 0))
    deep = quantize_matrices(np.zeros((1, 1, 40000), np.float32), how("unsigned", 0), side="right")
    with pytest.raises(BadInput, match="int32"):
        PartProducts(deep, how("unsigned", 0))
