"""Claim: torch's quantized conv1d, conv3d and conv_transpose2d give our requantizer's codes of our exact sums.

conv1d and conv3d with stride, padding, dilation and groups run through ``conv_codes``; transposed convolutions through
``integer_conv_transpose``, on FBGEMM and QNNPACK: torch 2.13's oneDNN engine gives codes of other sums for them, even
where the zero points are 0, and is left out. Scales keep the sums dense in ties, or are arbitrary.
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

from byte_operands import operands

from simulator.arithmetic.accumulator import Accumulator
from simulator.arithmetic.codes_out import conv_codes
from simulator.arithmetic.conv import integer_conv_transpose
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.requantize import FbgemmRequantizer, OnednnRequantizer, QnnpackRequantizer

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning"),
]
ENGINES = {"fbgemm": FbgemmRequantizer, "qnnpack": QnnpackRequantizer, "onednn": OnednnRequantizer}
UINT8 = IntFormat(8, signed=False)
SCALES = {"ties": (0.5, 0.25, 2.0), "random": (0.0123, 0.0371, 0.071), "coarse": (0.3, 0.11, 4.1)}
LEVELS = [(2, 1, 77), (6, 5, 128), (20, 17, 255)]


@pytest.fixture
def engine(request):
    """Select an engine for one test."""
    if request.param not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this build of torch has no {request.param} engine")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = request.param
    yield request.param
    torch.backends.quantized.engine = before


def tensor(codes, scale, zero=0):
    return torch._make_per_tensor_quantized_tensor(torch.from_numpy(codes), float(scale), zero)


def run(operation, prepack, left, weight, bias, arguments, y_scale, y_zero):
    """Output codes of an operator of torch.ops.quantized on packed weights; skipped where the engine has none."""
    bias = None if bias is None else torch.from_numpy(bias)
    try:
        packed = getattr(torch.ops.quantized, prepack)(weight, bias, *arguments)
        return getattr(torch.ops.quantized, operation)(left, packed, float(y_scale), y_zero).int_repr().numpy()
    except (RuntimeError, NotImplementedError) as error:
        if "support" in str(error) or "not implemented" in str(error).lower():
            pytest.skip(str(error).splitlines()[0])
        raise


def problem(rng, largest, shape, kernel):
    x = rng.integers(0, largest, shape, endpoint=True, dtype=np.uint8)
    return x, rng.integers(-largest, largest, kernel, endpoint=True).astype(np.int8)


def biases(rng, outputs, y_scale):
    yield None
    yield rng.integers(-40, 40, outputs).astype(np.float32) / 2 * y_scale
    yield (rng.normal(size=outputs) * 10 * y_scale).astype(np.float32)


CONVOLUTIONS = {
    "conv1d": Geometry.of(1, padding=2),
    "conv1d of groups, stride 2": Geometry.of(1, stride=2, padding=1, groups=2),
    "conv1d, dilation 2": Geometry.of(1, padding=1, dilation=2),
    "conv3d": Geometry.of(3, padding=1),
    "conv3d, stride 2 and groups": Geometry.of(3, stride=(1, 2, 2), padding=(1, 0, 1), groups=2),
    "conv3d, dilation 2": Geometry.of(3, padding=1, dilation=(1, 2, 1)),
}


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_convolution__has_the_codes_of_conv_codes(engine, name, scales):
    geometry, rng = CONVOLUTIONS[name], np.random.default_rng(9)
    axes, operation = geometry.axes, name[:6]
    x_scale, w_scale, y_scale = (np.float32(s) for s in SCALES[scales])
    pads = [before for before, _ in geometry.padding]
    for largest, x_zero, y_zero in LEVELS:
        x, w = problem(rng, largest, (2, 6, *(7, 6, 5)[:axes]), (8, 6 // geometry.groups, *(3, 3, 2)[:axes]))
        for bias in biases(rng, 8, y_scale):
            requantizer = ENGINES[engine](x_scale, w_scale, y_scale, y_zero, UINT8, bias)
            ours = conv_codes(*operands(x, x_zero, w, 0, geometry), requantizer, geometry).codes
            arguments = list(geometry.stride), pads, list(geometry.dilation), geometry.groups
            left, weight = tensor(x, x_scale, x_zero), tensor(w, w_scale)
            theirs = run(operation, f"{operation}_prepack", left, weight, bias, arguments, y_scale, y_zero)
            assert np.count_nonzero(np.moveaxis(ours, -1, 1) != theirs) == 0


TRANSPOSED = {
    "plain": (Geometry.of(2), 0),
    "stride 2, padded": (Geometry.of(2, stride=2, padding=1), 1),
    "dilation 2": (Geometry.of(2, stride=(2, 1), padding=1, dilation=2), 0),
}


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("name", TRANSPOSED)
@pytest.mark.parametrize("engine", ["fbgemm", "qnnpack"], indirect=True)
def test_conv_transpose2d__has_our_requantizers_codes(engine, name, scales):
    (geometry, extra), rng = TRANSPOSED[name], np.random.default_rng(10)
    x_scale, w_scale, y_scale = (np.float32(s) for s in SCALES[scales])
    pads = [before for before, _ in geometry.padding]
    for largest, x_zero, y_zero in LEVELS:
        x, w = problem(rng, largest, (2, 5, 6, 7), (5, 8, 3, 2))
        sums = integer_conv_transpose(
            x.transpose(0, 2, 3, 1), w, Accumulator(), geometry, output_padding=extra, x_zero=x_zero
        ).values.astype(np.int32)
        for bias in biases(rng, 8, y_scale):
            ours = ENGINES[engine](x_scale, w_scale, y_scale, y_zero, UINT8, bias)(sums).codes
            arguments = list(geometry.stride), pads, [extra] * 2, list(geometry.dilation), 1
            left, weight = tensor(x, x_scale, x_zero), tensor(w, w_scale)
            theirs = run("conv_transpose2d", "conv_transpose2d_prepack", left, weight, bias, arguments, y_scale, y_zero)
            assert np.count_nonzero(np.moveaxis(ours, -1, 1) != theirs) == 0
