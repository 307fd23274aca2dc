"""Claim: codes of a contraction are the requantizer's codes of its int32 sums, however they are cut into blocks."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from byte_operands import operands, quantized
from plain_convolution import convolve

from samplers.errors import BadInput
from simulator.arithmetic import codes_out
from simulator.arithmetic.codes_out import conv_codes, linear_codes
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.operands import left_operand
from simulator.arithmetic.quantizer import Quantized, QuantSpec
from simulator.arithmetic.requantize import FbgemmRequantizer, GemmlowpRequantizer, OnnxRuntimeRequantizer
from simulator.arithmetic.weights import prepare_weight

pytestmark = pytest.mark.usefixtures("one_thread")

SCALES = np.float32(0.3), np.linspace(0.01, 0.4, 12).astype(np.float32), np.float32(7)


def requantizer(kind=OnnxRuntimeRequantizer, fmt=None):
    bias = np.arange(-6, 6).astype(kind.BIAS) * 50
    return kind(*SCALES, 3, fmt or IntFormat(8), bias)


def matrices(rng, rows, depth=20):
    x, w = rng.integers(0, 256, (rows, depth), np.uint8), rng.integers(-128, 128, (12, depth)).astype(np.int8)
    sums = (x.astype(np.int64) - 100) @ (w.astype(np.int64) - 7).T
    return left_operand(quantized(x, 100)), prepare_weight(quantized(w, 7)), sums.astype(np.int32)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 16, 17, 100])
@pytest.mark.parametrize("block", [1, 12, 95, 96, 97, 1 << 18])
def test_linear_codes__are_the_requantized_sums_around_the_block(monkeypatch, rows, block):
    monkeypatch.setattr(codes_out, "BLOCK", block)
    x, weight, sums = matrices(np.random.default_rng(rows), rows)
    for kind, fmt in ((OnnxRuntimeRequantizer, IntFormat(16)), (FbgemmRequantizer, IntFormat(8, signed=False))):
        want = requantizer(kind, fmt)(sums)
        got = linear_codes(x, weight, requantizer(kind, fmt))
        assert got.codes.dtype == fmt.dtype
        assert np.array_equal(got.codes, want.codes)
        assert got.saturated == want.saturated


def test_linear_codes__saturate_somewhere_and_are_counted_over_all_blocks(monkeypatch):
    monkeypatch.setattr(codes_out, "BLOCK", 40)
    x, weight, sums = matrices(np.random.default_rng(1), 50)
    want = requantizer()(sums)
    assert want.saturated > 0
    assert linear_codes(x, weight, requantizer()).saturated == want.saturated


def test_linear_codes__keep_the_leading_axes():
    x, weight, sums = matrices(np.random.default_rng(2), 24)
    deep = left_operand(quantized(x.bytes.reshape(2, 3, 4, 20), 100))
    assert np.array_equal(linear_codes(deep, weight, requantizer()).codes.reshape(24, 12), requantizer()(sums).codes)


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("block", [1, 500, 1 << 18])
def test_conv_codes__are_the_requantized_sums_of_any_geometry(monkeypatch, groups, block):
    monkeypatch.setattr(codes_out, "BLOCK", block)
    rng = np.random.default_rng([groups, block])
    for axes in (1, 2, 3):
        geometry = Geometry.of(axes, stride=2, padding=tuple((1, 2) for _ in range(axes)), dilation=2, groups=groups)
        x = rng.integers(0, 256, (3, 6, *(7, 6, 5)[:axes]), np.uint8)
        w = rng.integers(-128, 128, (12, 6 // groups, *(3, 2, 2)[:axes])).astype(np.int8)
        sums = convolve(np.moveaxis(x, 1, -1), w, geometry, 100, 7).astype(np.int32)
        for kind in (OnnxRuntimeRequantizer, GemmlowpRequantizer):
            want, got = (
                requantizer(kind)(sums),
                conv_codes(*operands(x, 100, w, 7, geometry), requantizer(kind), geometry),
            )
            assert np.array_equal(got.codes, want.codes)
            assert got.saturated == want.saturated


def test_linear_codes__of_two_threads_at_once_do_not_share_their_memory(monkeypatch):
    monkeypatch.setattr(codes_out, "BLOCK", 240)
    problems = [matrices(np.random.default_rng(seed), 200) for seed in range(2)]
    wrong = []

    def work(x, weight, sums):
        for _ in range(30):
            wrong.append(np.count_nonzero(linear_codes(x, weight, requantizer()).codes != requantizer()(sums).codes))

    threads = [threading.Thread(target=work, args=problem) for problem in problems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 60
    assert not any(wrong)


def test_codes_out__refuse_scales_that_no_requantizer_has():
    codes, spec = np.ones((4, 6), np.uint8), QuantSpec(IntFormat(8, signed=False), PerAxis((0,)))
    rows = left_operand(Quantized(codes, np.ones((4, 1), np.float32), np.ones((4, 1), np.int32), spec))
    weight = quantized(np.ones((12, 6), np.int8))
    with pytest.raises(BadInput, match="one activation scale"):
        linear_codes(rows, prepare_weight(weight), requantizer())
    with pytest.raises(BadInput, match="one activation scale"):
        linear_codes(left_operand(quantized(codes)), prepare_weight(weight, group_size=2), requantizer())
