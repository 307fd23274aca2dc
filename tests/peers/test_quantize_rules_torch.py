"""Claim: torch's quantizers and ours of the same name give the same bits, both ways, on tie-dense data.

Half steps of the scale and their neighbours, values far beyond the range, NaN and infinities; lengths that leave a
remainder to every vector width. torchao and Brevitas are compared where they are installed.
"""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest

try:
    import torch
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"torch is absent: {error}", allow_module_level=True)

from simulator.arithmetic.dynamic import quantize_torchao_rows
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerTensor
from simulator.arithmetic.quantizer import QuantSpec, dequantize, quantize
from simulator.arithmetic.rounding import Rounding
from simulator.arithmetic.rules import (
    BREVITAS,
    TORCH_FAKE,
    TORCH_FAKE_PER_CHANNEL,
    TORCH_PER_CHANNEL,
    TORCH_PER_TENSOR,
    TORCHAO,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # torch announces that its quantized dtypes will go; they are the peer here, as pinned in constraints.txt
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning"),
]
FORMATS = {torch.qint8: IntFormat(8), torch.quint8: IntFormat(8, signed=False)}
SCALES = (0.25, 1.0, 0.1, 1 / 3, 0.0473, 2.0**-20, 7.3e5, 1e-39)
FAR = [1e4, 1e9, 2.0**31, 3e9, 1e12, 9.2e18, 2.0**63, 1e19, 1e30, 3.4e38, np.inf]
SPECIAL = np.array([*FAR, *(-v for v in FAR), np.nan, 0.0, -0.0], np.float32)


def tie_dense(scale, rng, count):
    """Half steps in and around every 8-bit range, their float32 neighbours, and special values."""
    ties = (rng.integers(-1100, 1100, count) / 2 * scale).astype(np.float32)
    moved = np.nextafter(ties, rng.choice(np.array([-np.inf, np.inf], np.float32), count))
    x = np.where(rng.random(count) < 0.6, ties, moved)
    x[rng.integers(0, count, count // 50)] = rng.choice(SPECIAL, count // 50)
    return x.astype(np.float32)


def cases(fmt, count=20001):
    rng = np.random.default_rng(8)
    for scale in map(np.float32, SCALES):
        for zero in (fmt.qmin, 0, 3, fmt.qmax):
            yield tie_dense(scale, rng, count), scale, zero


def ours(x, rule, fmt, scale, zero, rounding=Rounding.HALF_EVEN):
    spec = QuantSpec(fmt, PerTensor(), rounding=rounding, rule=rule)
    return quantize(x, spec, np.full((1,) * x.ndim, scale, np.float32), np.full((1,) * x.ndim, zero, np.int32))


def same_bits(a, b):
    return np.array_equal(np.asarray(a, np.float32).view(np.int32), np.asarray(b, np.float32).view(np.int32))


@pytest.mark.parametrize("kind", FORMATS, ids=str)
def test_quantize_per_tensor(kind):
    for x, scale, zero in cases(FORMATS[kind]):
        theirs = torch.quantize_per_tensor(torch.from_numpy(x), float(scale), zero, kind)
        got = ours(x, TORCH_PER_TENSOR, FORMATS[kind], scale, zero)
        assert np.count_nonzero(got.codes != theirs.int_repr().numpy()) == 0
        assert same_bits(dequantize(got), theirs.dequantize())


@pytest.mark.parametrize("kind", FORMATS, ids=str)
def test_quantize_per_tensor__does_not_depend_on_the_length(kind):
    rng = np.random.default_rng(9)
    for length in range(1, 80):
        x = tie_dense(np.float32(0.1), rng, length)
        theirs = torch.quantize_per_tensor(torch.from_numpy(x), float(np.float32(0.1)), 3, kind)
        assert ours(x, TORCH_PER_TENSOR, FORMATS[kind], np.float32(0.1), 3).codes.tolist() == theirs.int_repr().tolist()


def channels(fmt, rng, count=48, length=2501):
    scale = rng.choice(np.array(SCALES, np.float32), count)
    zero = rng.integers(fmt.qmin, fmt.qmax + 1, count).astype(np.int32)
    return np.stack([tie_dense(s, rng, length) for s in scale]), scale, zero


@pytest.mark.parametrize("kind", FORMATS, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_quantize_per_channel(kind, axis):
    fmt = FORMATS[kind]
    x, scale, zero = channels(fmt, np.random.default_rng(10))
    x = np.ascontiguousarray(np.moveaxis(x, 0, axis))
    parameters = tuple(np.expand_dims(v, 1 - axis) for v in (scale, zero))
    got = quantize(x, QuantSpec(fmt, PerAxis((axis,)), rule=TORCH_PER_CHANNEL), *parameters)
    theirs = torch.quantize_per_channel(*map(torch.from_numpy, (x, scale, zero)), axis, kind)
    assert np.count_nonzero(got.codes != theirs.int_repr().numpy()) == 0
    assert same_bits(dequantize(got), theirs.dequantize())


@pytest.mark.parametrize("fmt", [*FORMATS.values(), IntFormat(4), IntFormat(8, narrow=True)], ids=str)
def test_fake_quantize_per_tensor(fmt):
    for x, scale, zero in cases(fmt):
        theirs = torch.fake_quantize_per_tensor_affine(torch.from_numpy(x), float(scale), zero, fmt.qmin, fmt.qmax)
        assert same_bits(dequantize(ours(x, TORCH_FAKE, fmt, scale, zero)), theirs)


@pytest.mark.parametrize("fmt", [*FORMATS.values(), IntFormat(4)], ids=str)
def test_fake_quantize_per_channel(fmt):
    x, scale, zero = channels(fmt, np.random.default_rng(11))
    spec = QuantSpec(fmt, PerAxis((0,)), rule=TORCH_FAKE_PER_CHANNEL)
    got = dequantize(quantize(x, spec, scale[:, None], zero[:, None]))
    theirs = torch.fake_quantize_per_channel_affine(*map(torch.from_numpy, (x, scale, zero)), 0, fmt.qmin, fmt.qmax)
    assert same_bits(got, theirs)


def peer(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if os.environ.get("QNOISE_REQUIRE_PEERS") == "1" and name.startswith("torchao"):
            raise
        pytest.skip(f"{name} is absent: {error}")


@pytest.mark.parametrize("fmt", [IntFormat(8), IntFormat(8, signed=False)], ids=str)
def test_torchao_quantize_affine(fmt):
    primitives = peer("torchao.quantization.quant_primitives")
    kind = torch.int8 if fmt.signed else torch.uint8
    for x, scale, zero in cases(fmt, 5003):
        parameters = torch.tensor([float(scale)]), torch.tensor([zero], dtype=torch.int32)
        theirs = primitives.quantize_affine(torch.from_numpy(x), (len(x),), *parameters, kind, fmt.qmin, fmt.qmax)
        got = ours(x, TORCHAO, fmt, scale, zero)
        assert np.count_nonzero(got.codes != theirs.numpy()) == 0
        back = primitives.dequantize_affine(theirs, (len(x),), *parameters, kind, fmt.qmin, fmt.qmax)
        assert same_bits(dequantize(got), back)


def test_torchao_int8_rows():
    tensors = peer("torchao.quantization.quantize_.workflows.int8.int8_tensor")
    granularity = peer("torchao.quantization.granularity")
    rng = np.random.default_rng(12)
    x = (rng.integers(-255, 256, (3, 400, 97)) / 2).astype(np.float32)
    x[0, :100] *= np.float32(2.0) ** rng.integers(-30, 10, (100, 1)).astype(np.float32)
    x[1] = rng.normal(size=(400, 97)) * np.exp(rng.uniform(-25, 20, (400, 1)))
    x[2, 5] = 0
    theirs = tensors.Int8Tensor.from_hp(torch.from_numpy(x), granularity=granularity.PerRow())
    got = quantize_torchao_rows(x)
    assert same_bits(got.scale, theirs.scale.reshape(got.scale.shape))
    assert np.count_nonzero(got.codes != theirs.qdata.numpy()) == 0


@pytest.mark.parametrize(
    ("mode", "module"),
    [
        (Rounding.HALF_EVEN, "RoundSte"),
        (Rounding.FLOOR, "FloorSte"),
        (Rounding.CEIL, "CeilSte"),
        (Rounding.TOWARD_ZERO, "RoundToZeroSte"),
    ],
)
@pytest.mark.parametrize("fmt", [*FORMATS.values(), IntFormat(4, narrow=True)], ids=str)
def test_brevitas_int_quant(fmt, mode, module):
    core = peer("brevitas.core.quant")
    functions = peer("brevitas.core.function_wrapper")
    quantizer = core.IntQuant(
        fmt.narrow, fmt.signed, torch.nn.Identity(), float_to_int_impl=getattr(functions, module)()
    )
    for x, scale, zero in cases(fmt, 5003):
        arguments = (torch.tensor(float(scale)), torch.tensor(float(zero)), torch.tensor(float(fmt.bits)))
        real = quantizer.to_int(*arguments, torch.from_numpy(x))
        got = ours(x, BREVITAS, fmt, scale, zero, mode)
        nan = np.isnan(x)
        assert np.all(np.isnan(real.numpy()[nan]))
        kind = torch.int8 if fmt.signed else torch.uint8
        assert np.count_nonzero(got.codes != real.to(kind).numpy()) == 0
        # compared as numbers: Brevitas keeps its integers in float, and so has -0
        assert np.array_equal(dequantize(got)[~nan], quantizer(*arguments, torch.from_numpy(x)).numpy()[~nan])
