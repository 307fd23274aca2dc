"""Claim: packed bytes and words are those of the projects that define the layouts, on random codes of every value.

Peers: onnx, torchao, AutoGPTQ (GPTQ and Marlin), AutoAWQ; each is skipped when absent, and `QNOISE_REQUIRE_PEERS=1`
turns a missing one into a failure. AutoGPTQ and AutoAWQ are in no extra: as a whole they need a stack of other packages
of their time. They are installed without their dependencies (.ci/run), and the one file of each that packs is loaded by
its path.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.packed_layouts import AWQ, GPTQ, GPTQ_ZEROS, MARLIN, ONNX, TORCHAO, TORCHAO_TINYGEMM
from simulator.arithmetic.packing import pack, unpack

# torchao deprecates parts of itself while it is imported
pytestmark = pytest.mark.filterwarnings("ignore:::torchao")


def load(name, file=None):
    """A module of a peer; with ``file``, only that file of the package."""
    try:
        if file is None:
            return importlib.import_module(name)
        package = importlib.util.find_spec(name)
        if package is None:
            raise ImportError(name)
        spec = importlib.util.spec_from_file_location(f"peer_{Path(file).stem}", Path(package.origin).parent / file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ImportError as error:
        if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
            raise
        pytest.skip(f"{name} is absent: {error}")


def random_codes(fmt, shape, seed=0):
    return np.random.default_rng(seed).integers(fmt.qmin, fmt.qmax + 1, shape).astype(fmt.dtype)


@pytest.mark.parametrize("name", ["INT4", "UINT4", "INT2", "UINT2"])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4), (7, 7), (0, 3)], ids=str)
def test_onnx__raw_data_is_ours(name, shape) -> None:
    helper, numpy_helper = load("onnx.helper"), load("onnx.numpy_helper")
    proto = load("onnx").TensorProto
    fmt = IntFormat(int(name[-1]), signed=name.startswith("I"))
    codes = random_codes(fmt, shape)
    kind = getattr(proto, name)
    tensor = numpy_helper.from_array(codes.astype(helper.tensor_dtype_to_np_dtype(kind)))
    assert tensor.data_type == kind
    assert tensor.raw_data == pack(codes, ONNX, fmt).tobytes()
    stored = np.frombuffer(tensor.raw_data, np.uint8)
    np.testing.assert_array_equal(unpack(stored, ONNX, shape, fmt), codes)
    ours = proto(data_type=kind, dims=shape, raw_data=pack(codes, ONNX, fmt).tobytes())
    np.testing.assert_array_equal(numpy_helper.to_array(ours).astype(fmt.dtype), codes)


@pytest.mark.parametrize("shape", [(2,), (5, 16), (3, 2, 6)], ids=str)
def test_torchao__packs_the_same_bytes(shape) -> None:
    peer = load("torchao.prototype.mx_formats.kernels")
    fmt = IntFormat(4, signed=False)
    codes = random_codes(fmt, shape)
    packed = pack(codes, TORCHAO, fmt)
    np.testing.assert_array_equal(peer.pack_uint4(torch.from_numpy(codes)).numpy(), packed)
    np.testing.assert_array_equal(peer.unpack_uint4(torch.from_numpy(packed)).numpy(), codes)


def test_torchao_tinygemm__packs_the_same_bytes(monkeypatch) -> None:
    peer = load("torchao.quantization.utils")
    # the peer's order depends on the device alone; this takes its CUDA branch on CPU tensors
    monkeypatch.setattr(peer, "_is_device", lambda kind, device: kind == "cuda")
    fmt = IntFormat(4, signed=False)
    codes = random_codes(fmt, (6, 32))
    one, zero = torch.ones(6, 1), torch.zeros(6, 1, dtype=torch.int32)
    integer = peer.ZeroPointDomain.INT
    packed = pack(codes, TORCHAO_TINYGEMM, fmt)
    got = peer.groupwise_affine_quantize_tensor_from_qparams(
        torch.from_numpy(codes).float(), one, zero, 4, 32, zero_point_domain=integer
    )
    np.testing.assert_array_equal(got.numpy(), packed)
    back = peer.groupwise_affine_dequantize_tensor_from_qparams(
        torch.from_numpy(packed), one, zero, 4, 32, zero_point_domain=integer
    )
    np.testing.assert_array_equal(back.numpy(), codes)


def gptq_layer(bits, codes, zeros, group):
    """AutoGPTQ's layer that holds these codes with scale 1."""
    peer = load("auto_gptq", "nn_modules/qlinear/qlinear_cuda.py")
    (k, n), (groups, _) = codes.shape, zeros.shape
    layer = peer.QuantLinear(bits, group, k, n, bias=False, weight_dtype=torch.float32)
    linear = torch.nn.Linear(k, n, bias=False)
    of_row = zeros.astype(np.int32)[np.arange(k) // group]
    linear.weight.data = torch.from_numpy((codes.astype(np.int32) - of_row).T.copy()).float()
    layer.pack(linear, torch.ones(n, groups), torch.from_numpy(zeros.astype(np.int32).T.copy()))
    return layer


@pytest.mark.parametrize("bits", [2, 4])
def test_gptq__packs_the_same_words_and_reads_ours(bits) -> None:
    fmt = IntFormat(bits, signed=False)
    codes = random_codes(fmt, (96, 64))
    zeros = random_codes(fmt, (3, 64), 1) + np.uint8(1)
    layer = gptq_layer(bits, codes, zeros, group=32)
    np.testing.assert_array_equal(layer.qweight.numpy(), pack(codes, GPTQ, fmt))
    np.testing.assert_array_equal(layer.qzeros.numpy(), pack(zeros, GPTQ_ZEROS, fmt))
    layer.qweight = torch.from_numpy(pack(codes, GPTQ, fmt))
    layer.qzeros = torch.from_numpy(pack(zeros, GPTQ_ZEROS, fmt))
    want = codes.astype(int) - np.repeat(zeros.astype(int), 32, axis=0)
    np.testing.assert_array_equal(layer(torch.eye(96)).detach().numpy(), want)


def test_gptq__spoils_the_word_of_a_zero_point_0() -> None:
    zeros = np.full((1, 32), 3, np.uint8)
    zeros[0, 2] = 0
    fmt = IntFormat(4, signed=False)
    layer = gptq_layer(4, random_codes(fmt, (32, 32)), zeros, group=32)
    stored = unpack(layer.qzeros.numpy(), GPTQ_ZEROS, (1, 32), fmt)
    assert stored[0, :8].tolist() == [3, 3, 16, 16, 16, 16, 16, 16]


def test_awq__unpacks_our_words() -> None:
    peer = load("awq", "utils/packing_utils.py")
    fmt = IntFormat(4, signed=False)
    codes, zeros = random_codes(fmt, (32, 48)), random_codes(fmt, (2, 48), 1)
    words = (torch.from_numpy(pack(c, AWQ, fmt)) for c in (codes, zeros))
    for got, want in zip(peer.reverse_awq_order(*peer.unpack_awq(*words, 4), 4), (codes, zeros), strict=True):
        np.testing.assert_array_equal((got & 15).numpy(), want)
    assert peer.AWQ_ORDER == [0, 2, 4, 6, 1, 3, 5, 7]


@pytest.mark.parametrize("group", [-1, 128])
def test_marlin__packs_the_same_words(group) -> None:
    peer = load("auto_gptq", "nn_modules/qlinear/qlinear_marlin.py")
    k, n = 256, 512
    fmt = IntFormat(4)
    codes = random_codes(fmt, (k, n))
    # its constructor only asks whether a suitable GPU is present, then makes the buffers that pack fills
    layer = peer.QuantLinear.__new__(peer.QuantLinear)
    torch.nn.Module.__init__(layer)
    layer.infeatures, layer.outfeatures, layer.group_size, layer.bias = k, n, k if group == -1 else group, None
    groups = k // layer.group_size
    layer.register_buffer("B", torch.empty((k // 16, n * 16 // 8), dtype=torch.int))
    layer.register_buffer("s", torch.empty((groups, n), dtype=torch.half))
    linear = torch.nn.Linear(k, n, bias=False, dtype=torch.half)
    linear.weight.data = torch.from_numpy(codes.T.astype(np.float16))
    layer.pack(linear, torch.ones(n, groups, dtype=torch.half))
    np.testing.assert_array_equal(layer.B.numpy(), pack(codes, MARLIN, fmt))
