"""Claim: torch's quantized linear and conv2d, on each engine, give our requantizer's codes of our exact sums.

The sums are dense in ties: small products under power-of-two scales, with a zero point of either parity; and in sums
that lie on a tie but for one rounding: scales that are ratios of small integers. The latter tell oneDNN's two
multiplications from one by the product of the scales.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

try:
    import torch
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"torch is absent: {error}", allow_module_level=True)

from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.conv import integer_conv
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.requantize import FbgemmRequantizer, OnednnRequantizer, QnnpackRequantizer

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # torch announces that its quantized dtypes will go; they are the peer here, as pinned in constraints.txt
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning"),
]
ENGINES = {
    "fbgemm": FbgemmRequantizer,
    "x86": FbgemmRequantizer,
    "qnnpack": QnnpackRequantizer,
    "onednn": OnednnRequantizer,
}
UINT8 = IntFormat(8, signed=False)
ROWS, DEPTH, CHANNELS = 192, 8, 48
SCALES = {
    "ties": (0.5, 0.25, 2.0),
    "ties in a finer step": (2.0**-7, 2.0**-5, 2.0**-8),
    "random": (0.0123, 0.0371, 0.071),
    "thirds": (1 / 3, 1 / 7, 0.7),
    "coarse": (0.3, 0.11, 4.1),
}


@pytest.fixture
def engine(request):
    """Select an engine for one test."""
    if request.param not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this build of torch has no {request.param} engine")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = request.param
    yield request.param
    torch.backends.quantized.engine = before


def weight_tensor(codes, scale):
    if np.ndim(scale) == 0:
        return torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes), float(scale), 0)
    scales, zeros = torch.from_numpy(scale.astype(np.float64)), torch.zeros(len(scale), dtype=torch.int64)
    return torch._make_per_channel_quantized_tensor(torch.from_numpy(codes), scales, zeros, 0)


def linear(x, x_scale, x_zero, w, w_scale, bias, y_scale, y_zero):
    """Output codes of torch's quantized linear on uint8 and int8 codes."""
    left = torch._make_per_tensor_quantized_tensor(torch.from_numpy(x), float(x_scale), x_zero)
    bias = None if bias is None else torch.from_numpy(bias)
    packed = torch.ops.quantized.linear_prepack(weight_tensor(w, w_scale), bias)
    return torch.ops.quantized.linear(left, packed, float(y_scale), y_zero).int_repr().numpy()


def conv2d(x, x_scale, x_zero, w, w_scale, bias, y_scale, y_zero, stride=(1, 1), padding=(0, 0)):
    """Output codes of torch's quantized conv2d on uint8 and int8 codes, (batch, channel, height, width)."""
    left = torch._make_per_tensor_quantized_tensor(torch.from_numpy(x), float(x_scale), x_zero)
    bias = None if bias is None else torch.from_numpy(bias)
    packed = torch.ops.quantized.conv2d_prepack(weight_tensor(w, w_scale), bias, stride, padding, [1, 1], 1)
    return torch.ops.quantized.conv2d(left, packed, float(y_scale), y_zero).int_repr().numpy()


def conv(x, x_scale, x_zero, w, *rest):
    """The linear layer as a 1 x 1 convolution of one-pixel images."""
    return conv2d(x[:, :, None, None].copy(), x_scale, x_zero, w[:, :, None, None].copy(), *rest)[:, :, 0, 0]


def channel_scales(rng, scales, w_scale):
    """Per-channel weight scales that keep the ties of the chosen scales."""
    if "ties" in scales:
        return w_scale * (2.0 ** rng.integers(-2, 3, CHANNELS)).astype(np.float32)
    if scales == "thirds":  # small ratios: with a bias in half steps, sums land on or one rounding beside a tie
        return w_scale * rng.choice([1, 3, 5, 7, 1 / 2, 1 / 4, 1 / 3, 7 / 3], CHANNELS).astype(np.float32)
    return w_scale * rng.uniform(0.2, 8, CHANNELS).astype(np.float32)


def linear_scale(engine, w_scale):
    """What reaches the kernel: torch inverts a per-channel scale twice on its way to oneDNN's linear layer."""
    return np.float32(1) / (np.float32(1) / w_scale) if engine == "onednn" and w_scale.ndim else w_scale


def conv_requantizer(engine):
    """The formula of an engine's convolution; the x86 engine's linear layer is FBGEMM's."""
    if engine != "x86":
        return ENGINES[engine]
    if not torch.cpu._is_vnni_supported():
        pytest.skip("the x86 engine's convolution is oneDNN's on a CPU with VNNI; its choice elsewhere is unchecked")
    return OnednnRequantizer


def problem(rng, largest):
    x = rng.integers(0, largest, (ROWS, DEPTH), endpoint=True, dtype=np.uint8)
    w = rng.integers(-largest // 2, largest // 2, (CHANNELS, DEPTH), endpoint=True).clip(-127, 127).astype(np.int8)
    return x, w


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("operation", [linear, conv])
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_operation__has_our_requantizers_codes(engine, operation, scales, per_channel):
    kind = conv_requantizer(engine) if operation is conv else ENGINES[engine]
    rng = np.random.default_rng(4)
    x_scale, w_scale, y_scale = (np.float32(s) for s in SCALES[scales])
    if per_channel:
        w_scale = channel_scales(rng, scales, w_scale)
    for largest, x_zero, y_zero in ((4, 0, 0), (4, 3, 77), (9, 5, 128), (40, 17, 255), (60, 17, 77)):
        x, w = problem(rng, largest)
        acc = (x.astype(np.int32) - x_zero) @ w.astype(np.int32).T
        # whole and half output steps keep the ties; the last are arbitrary
        steps = rng.integers(-40, 40, CHANNELS).astype(np.float32) / 2 * y_scale
        for bias in (None, steps, (rng.normal(size=CHANNELS) * 10 * y_scale).astype(np.float32)):
            seen = linear_scale(engine, w_scale) if operation is linear else w_scale
            ours = kind(x_scale, seen, y_scale, y_zero, UINT8, bias)(acc)
            theirs = operation(x, x_scale, x_zero, w, w_scale, bias, y_scale, y_zero)
            assert np.count_nonzero(ours.codes != theirs) == 0


GEOMETRIES = {
    "3x3 padded": ((3, 3), (1, 1), (1, 1)),
    "3x3 stride 2": ((3, 3), (2, 2), (1, 1)),
    "2x5 stride 3, 1": ((2, 5), (3, 1), (0, 2)),
}


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_conv2d__has_our_requantizers_codes(engine, geometry, scales, per_channel):
    kind = conv_requantizer(engine)
    size, stride, padding = GEOMETRIES[geometry]
    rng = np.random.default_rng(6)
    x_scale, w_scale, y_scale = (np.float32(s) for s in SCALES[scales])
    if per_channel:
        w_scale = channel_scales(rng, scales, w_scale)
    for channels, largest, x_zero, y_zero in ((8, 2, 1, 77), (3, 6, 5, 128), (5, 20, 17, 255), (5, 20, 17, 77)):
        x = rng.integers(0, largest, (2, channels, 9, 10), endpoint=True, dtype=np.uint8)
        w = rng.integers(-largest, largest, (CHANNELS, channels, *size), endpoint=True).astype(np.int8)
        acc = integer_conv(
            x.transpose(0, 2, 3, 1), w, Accumulator(), Geometry.of(2, stride=stride, padding=padding), x_zero=x_zero
        ).values.astype(np.int32)
        steps = rng.integers(-40, 40, CHANNELS).astype(np.float32) / 2 * y_scale
        for bias in (None, steps, (rng.normal(size=CHANNELS) * 10 * y_scale).astype(np.float32)):
            ours = kind(x_scale, w_scale, y_scale, y_zero, UINT8, bias)(acc)
            theirs = conv2d(x, x_scale, x_zero, w, w_scale, bias, y_scale, y_zero, stride, padding)
            assert np.count_nonzero(ours.codes.transpose(0, 3, 1, 2) != theirs) == 0


@pytest.mark.parametrize("engine", ["onednn"], indirect=True)
def test_linear__hands_onednn_a_scale_inverted_twice_per_channel(engine):
    """A scale of 3 / 7 is not f32(1 / f32(1 / scale)); the codes tell which of the two the kernel saw."""
    rng = np.random.default_rng(7)
    x_scale, y_scale = np.float32(1 / 3), np.float32(0.7)
    w_scale = np.full(CHANNELS, np.float32(1 / 7) * np.float32(3))
    seen = linear_scale(engine, w_scale)
    assert np.all(seen != w_scale)
    differ = 0
    for _ in range(8):
        x, w = problem(rng, 20)
        acc = (x.astype(np.int32) - 17) @ w.astype(np.int32).T
        bias = rng.integers(-40, 40, CHANNELS).astype(np.float32) / 2 * y_scale
        theirs = linear(x, x_scale, 17, w, w_scale, bias, y_scale, 77)
        assert np.count_nonzero(OnednnRequantizer(x_scale, seen, y_scale, 77, UINT8, bias)(acc).codes != theirs) == 0
        differ += np.count_nonzero(OnednnRequantizer(x_scale, w_scale, y_scale, 77, UINT8, bias)(acc).codes != theirs)
    assert differ > 0


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_linear__treats_values_beyond_int32_as_our_requantizer_does(engine):
    rng = np.random.default_rng(5)
    x, w = problem(rng, 40)
    acc = (x.astype(np.int32) - 11) @ w.astype(np.int32).T
    for y_scale in (1e-3, 1e-6, 1e-7, 1e-8):
        ours = ENGINES[engine](0.5, 0.25, y_scale, 3, UINT8, None)(acc)
        theirs = linear(x, 0.5, 11, w, 0.25, None, np.float32(y_scale), 3)
        assert np.count_nonzero(ours.codes != theirs) == 0
