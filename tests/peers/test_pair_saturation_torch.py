"""Claim: torch's byte products without VNNI, and FBGEMM's depthwise 3 x 3 on any CPU, saturate the pairs that we do.

``ONEDNN_MAX_CPU_ISA=AVX2`` is read when oneDNN starts, so its operations run in an interpreter of their own. A
quantized operation returns 8-bit codes: with all scales 1, the bias ``100 - sum`` of the sums we expect gives code 100
at every output that agrees exactly.
"""

from __future__ import annotations

import json
import os
import textwrap

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
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # torch announces that its quantized dtypes will go; they are the peer here, as pinned in constraints.txt
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning"),
    pytest.mark.skipif(not torch.cpu._is_avx2_supported(), reason="the instructions are those of x86 with AVX2"),
]

PEER = """
import json
import numpy as np
import torch

torch.set_num_threads(1)
CODE = 100


def quantized(codes, zero=0):
    return torch._make_per_tensor_quantized_tensor(torch.from_numpy(np.ascontiguousarray(codes)), 1.0, zero)


def linear_mismatches(engine, x, x_zero, w, sums):
    torch.backends.quantized.engine = engine
    wrong = 0
    for row, expected in zip(x, sums, strict=True):
        packed = torch.ops.quantized.linear_prepack(quantized(w), torch.from_numpy((CODE - expected).astype("f4")))
        got = torch.ops.quantized.linear(quantized(row[None], x_zero), packed, 1.0, 0)
        wrong += int((got.int_repr() != CODE).sum())
    return wrong


def conv2d_mismatches(engine, x, x_zero, w, sums, padding, stride, groups):
    '''x (1, height, width, channel), w (outputs, channel in group, ...), sums (1, out height, out width, outputs).'''
    torch.backends.quantized.engine = engine
    image = quantized(x.transpose(0, 3, 1, 2), x_zero).contiguous(memory_format=torch.channels_last)
    wrong = 0
    for i, j in np.ndindex(sums.shape[1:3]):
        packed = torch.ops.quantized.conv2d_prepack(
            quantized(w), torch.from_numpy((CODE - sums[0, i, j]).astype("f4")),
            [stride] * 2, [padding] * 2, [1, 1], groups,
        )
        got = torch.ops.quantized.conv2d(image, packed, 1.0, 0).int_repr()
        wrong += int((got[0, :, i, j] != CODE).sum())
    return wrong
"""


def extreme(rng, shape, dtype):
    """Codes that saturate most pairs, and leave some just inside."""
    choices = [0, 1, 128, 200, 255] if dtype == np.uint8 else [-128, -90, -1, 64, 90, 127]
    return rng.choice(choices, shape).astype(dtype)


def peer():
    scope: dict = {}
    exec(PEER, scope)
    return scope


def linear_problems():
    rng = np.random.default_rng(1)
    for depth, x_zero in ((16, 0), (33, 7), (64, 128), (7, 255)):
        yield extreme(rng, (6, depth), np.uint8), x_zero, extreme(rng, (9, depth), np.int8)


def conv_problems():
    rng = np.random.default_rng(2)
    for channels, outputs, size, padding, stride in (
        (3, 8, 3, 1, 1), (4, 8, 3, 1, 2), (5, 16, 3, 0, 1), (6, 8, 1, 0, 1), (16, 16, 3, 1, 1), (17, 16, 2, 0, 1),
    ):  # fmt: skip
        x = extreme(rng, (1, 4, 5, channels), np.uint8)
        yield x, 7, extreme(rng, (outputs, channels, size, size), np.int8), padding, stride


def depthwise_sums(x, x_zero, w, padding, stride, accumulator):
    """Every channel a convolution of its own."""
    return np.concatenate(
        [
            integer_conv(
                x[..., c : c + 1],
                w[c : c + 1],
                accumulator,
                x_zero=x_zero,
                geometry=Geometry.of(2, padding=padding, stride=stride),
            ).values
            for c in range(len(w))
        ],
        axis=3,
    )


def in_avx2(fresh_python, tmp_path, arrays, body):
    """Run ``body`` beside PEER in an interpreter whose oneDNN stops at AVX2; ``arrays`` is what it may load."""
    np.savez(tmp_path / "arrays.npz", **arrays)
    code = PEER + f"arrays = np.load({str(tmp_path / 'arrays.npz')!r})\n" + textwrap.dedent(body)
    done = fresh_python(code, ONEDNN_MAX_CPU_ISA="AVX2", OMP_NUM_THREADS="1")
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.skipif("onednn" not in torch.backends.quantized.supported_engines, reason="torch has no onednn engine")
def test_onednn_linear__saturates_pairs_of_neighbouring_channels(fresh_python, tmp_path):
    arrays = {}
    for i, (x, x_zero, w) in enumerate(linear_problems()):
        pairs = integer_matmul(x, w, PairAccumulator(), x_zero=x_zero)
        exact = integer_matmul(x, w, Accumulator(), x_zero=x_zero)
        assert pairs.overflowed > 0.1 * pairs.values.size
        arrays |= {f"x{i}": x, f"zero{i}": x_zero, f"w{i}": w, f"pairs{i}": pairs.values, f"exact{i}": exact.values}
    found = in_avx2(fresh_python, tmp_path, arrays, """
        found = []
        for i in range(4):
            x, x_zero, w = arrays[f"x{i}"], int(arrays[f"zero{i}"]), arrays[f"w{i}"]
            found.append([linear_mismatches("onednn", x, x_zero, w, arrays[f"{kind}{i}"])
                          for kind in ("pairs", "exact")])
        print(json.dumps(found))
        """)  # fmt: skip
    assert [pairs for pairs, _ in found] == [0] * 4
    assert all(exact for _, exact in found)


@pytest.mark.skipif("onednn" not in torch.backends.quantized.supported_engines, reason="torch has no onednn engine")
def test_onednn_conv2d__saturates_pairs_of_channels_of_one_tap(fresh_python, tmp_path):
    arrays = {}
    for i, (x, x_zero, w, padding, stride) in enumerate(conv_problems()):
        where = {"x_zero": x_zero, "geometry": Geometry.of(2, padding=padding, stride=stride)}
        pairs = integer_conv(x, w, PairAccumulator(), **where)
        taps = integer_conv(x, w, PairAccumulator(Pairing.TAPS), **where)
        assert pairs.overflowed > 0.1 * pairs.values.size
        arrays |= {f"x{i}": x, f"w{i}": w, f"how{i}": [x_zero, padding, stride]}
        arrays |= {f"pairs{i}": pairs.values, f"taps{i}": taps.values}
    found = in_avx2(fresh_python, tmp_path, arrays, """
        found = []
        for i in range(6):
            x_zero, padding, stride = arrays[f"how{i}"].tolist()
            x, w = arrays[f"x{i}"], arrays[f"w{i}"]
            found.append([conv2d_mismatches("onednn", x, x_zero, w, arrays[f"{kind}{i}"], padding, stride, 1)
                          for kind in ("pairs", "taps")])
        print(json.dumps(found))
        """)  # fmt: skip
    assert [pairs for pairs, _ in found] == [0] * 6
    assert all(taps for _, taps in found)


def test_int_mm__saturates_pairs_of_codes_shifted_up_by_128(fresh_python, tmp_path):
    rng = np.random.default_rng(3)
    arrays, want = {}, []
    for i, (rows, depth, columns) in enumerate(((17, 32, 16), (33, 40, 8), (40, 33, 16), (20, 7, 8), (64, 130, 32))):
        x, w = (
            rng.choice([-128, -3, 90, 100, 127], shape).astype(np.int8) for shape in ((rows, depth), (columns, depth))
        )
        arrays |= {f"x{i}": x, f"w{i}": w}
        want.append(integer_matmul((x + np.int16(128)).astype(np.uint8), w, PairAccumulator(), x_zero=128).values)
        assert not np.array_equal(want[-1], integer_matmul(x, w, Accumulator()).values)
    found = in_avx2(fresh_python, tmp_path, arrays, """
        print(json.dumps([
            torch._int_mm(torch.from_numpy(arrays[f"x{i}"]), torch.from_numpy(arrays[f"w{i}"].T.copy())).tolist()
            for i in range(5)]))
        """)  # fmt: skip
    for got, expected in zip(found, want, strict=True):
        assert np.count_nonzero(np.array(got) != expected) == 0


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no fbgemm engine")
@pytest.mark.parametrize(("channels", "stride", "x_zero"), [(8, 1, 7), (16, 2, 0), (24, 1, 255), (32, 1, 128)])
def test_fbgemm_depthwise__saturates_pairs_of_taps(channels, stride, x_zero):
    rng = np.random.default_rng(4)
    x, w = extreme(rng, (1, 5, 6, channels), np.uint8), extreme(rng, (channels, 1, 3, 3), np.int8)
    pairs = depthwise_sums(x, x_zero, w, 1, stride, PairAccumulator(Pairing.TAPS))
    exact = depthwise_sums(x, x_zero, w, 1, stride, Accumulator())
    assert np.mean(pairs != exact) > 0.1
    assert peer()["conv2d_mismatches"]("fbgemm", x, x_zero, w, pairs, 1, stride, channels) == 0


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no fbgemm engine")
@pytest.mark.parametrize(("channels", "padding"), [(16, 0), (3, 1), (12, 1)])
def test_fbgemm_depthwise__is_exact_without_padding_1_or_channels_in_eights(channels, padding):
    rng = np.random.default_rng(5)
    x, w = extreme(rng, (1, 5, 6, channels), np.uint8), extreme(rng, (channels, 1, 3, 3), np.int8)
    exact = depthwise_sums(x, 7, w, padding, 1, Accumulator())
    assert peer()["conv2d_mismatches"]("fbgemm", x, 7, w, exact, padding, 1, channels) == 0
