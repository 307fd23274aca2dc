"""Claim: the torch targets compute what torch's quantized operators do: codes, and the floats of dynamic layers.

Problems are dense in ties and in sums one rounding beside a tie. The operands are those that ``simulator.targets``
takes, so a target's choice of accumulator, requantizer, bias and scales is what is compared.
"""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import numpy as np
import pytest

try:
    import torch
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"torch is absent: {error}", allow_module_level=True)

import target_problems
from target_problems import SCALES, quantized, scales_of
from torch_operators import conv, linear, weight_tensor

from simulator import targets
from simulator.arithmetic.geometry import Geometry

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # torch announces that its quantized dtypes will go; they are the peer here, as pinned in constraints.txt
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per_channel:UserWarning"),
]
NAMES = {"torch-fbgemm": "fbgemm", "torch-qnnpack": "qnnpack", "torch-onednn": "onednn", "torch-x86": "x86"}
HELPERS = str(Path(target_problems.__file__).parent)
every_scale = pytest.mark.parametrize("scales", SCALES)
every_granularity = pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])


@pytest.fixture
def target(request):
    """The target, with its engine selected."""
    engine = NAMES[request.param]
    if engine not in torch.backends.quantized.supported_engines:
        pytest.skip(f"this build of torch has no {engine} engine")
    if engine in ("onednn", "x86") and not torch.cpu._is_vnni_supported():
        pytest.skip("the target is that of a CPU with VNNI")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = engine
    yield targets.target(request.param)
    torch.backends.quantized.engine = before


every_target = pytest.mark.parametrize("target", NAMES, indirect=True)


def problems(target, scales, per_channel, x_shape, w_shape, seed, largest=(9, 40)):
    """(x, w, bias, output)."""
    rng = np.random.default_rng(seed)
    outputs = w_shape[0]
    for top, x_zero, y_zero in zip(largest, (3, 18), (77, 128), strict=True):
        x_scale, w_scale, y_scale = scales_of(rng, scales, outputs, per_channel)
        x = quantized(rng.integers(0, top, x_shape, endpoint=True), target.activations[0], x_scale, x_zero)
        w = rng.integers(-top // 2, top // 2, w_shape, endpoint=True)
        w = quantized(w, target.weights[per_channel], w_scale)
        steps = rng.integers(-40, 40, outputs).astype(np.float32) / 2 * y_scale
        for bias in (None, steps, (rng.normal(size=outputs) * 10 * y_scale).astype(np.float32)):
            yield x, w, bias, targets.OutputSpec(y_scale, y_zero, target.outputs[0])


@every_target
@every_scale
@every_granularity
def test_linear__gives_torchs_codes(target, scales, per_channel):
    for x, w, bias, output in problems(target, scales, per_channel, (192, 8), (48, 8), 1):
        ours = targets.linear(target, x, w, bias, output)
        assert np.count_nonzero(ours.values != linear(x, w, bias, output)) == 0


@every_target
@every_scale
@every_granularity
def test_conv__gives_torchs_codes(target, scales, per_channel):
    geometry = Geometry.of(2, stride=(2, 1), padding=1)
    for x, w, bias, output in problems(target, scales, per_channel, (2, 9, 10, 5), (24, 5, 3, 3), 2, (3, 20)):
        ours = targets.conv(target, x, w, bias, geometry, output)
        assert np.count_nonzero(ours.values != conv(x, w, bias, geometry, output)) == 0


@pytest.mark.parametrize("target", ["torch-fbgemm"], indirect=True)
@every_scale
@every_granularity
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_conv__saturates_and_requantizes_as_fbgemm_does(target, scales, per_channel, stride):
    rng = np.random.default_rng(3)
    geometry = Geometry.of(2, stride=stride, padding=1, groups=16)
    x_scale, w_scale, _ = scales_of(rng, scales, 16, per_channel)
    x = quantized(rng.choice([0, 1, 128, 200, 255], (2, 7, 8, 16)), target.activations[0], x_scale, 7)
    w = quantized(rng.choice([-128, -90, -1, 64, 90, 127], (16, 1, 3, 3)), target.weights[per_channel], w_scale)
    for y_scale in (np.float32(64), np.float32(100.1)):
        for bias in (None, (rng.integers(-40, 40, 16) / 2 * y_scale).astype(np.float32)):
            output = targets.OutputSpec(y_scale, 128, target.outputs[0])
            ours = targets.conv(target, x, w, bias, geometry, output)
            assert ours.overflowed > 50
            assert np.count_nonzero(ours.values != conv(x, w, bias, geometry, output)) == 0


@every_target
@every_granularity
def test_linear__gives_the_floats_of_torchs_dynamic_layer(target, per_channel):
    """The scale that torch derives from the data is a float32 here: the ends of x are whole steps of 15 bits."""
    rng = np.random.default_rng(4)
    differ = 0
    for trial in range(12):
        step, x_zero = np.float32(rng.integers(2**14, 2**15) * 2.0**-20), int(rng.integers(0, 256))
        codes = rng.integers(0, 256, (16, 24))
        codes[0, :2] = 0, 255
        real = ((codes - x_zero) * step).astype(np.float32)
        x = targets.quantize_activation(target, real, np.full((1, 1), step), np.full((1, 1), x_zero, np.int32))
        assert np.array_equal(x.codes, codes)
        w_scale = rng.uniform(0.01, 0.1, 32 if per_channel else 1)
        w = quantized(rng.integers(-127, 128, (32, 24)), target.weights[per_channel], w_scale)
        bias = (rng.normal(size=32) * 5).astype(np.float32) if trial % 3 else None
        packed = torch.ops.quantized.linear_prepack(
            weight_tensor(w),
            None if bias is None else torch.from_numpy(bias),
        )
        theirs = torch.ops.quantized.linear_dynamic(torch.from_numpy(real), packed, False).numpy()
        ours = targets.linear(target, x, w, bias)
        assert np.count_nonzero(ours.values != theirs) == 0
        other = targets.linear(targets.target("cuda-int8"), *_symmetric(x, w), bias)
        differ += np.count_nonzero(other.values != theirs)
    assert differ > 100  # another epilogue would show


def _symmetric(x, w):
    """The same real operands, as far as cuda-int8 holds them: only used to see that floats differ at all."""
    cuda = targets.target("cuda-int8")
    codes = (x.codes.astype(int) - int(x.zero_point.reshape(()))).clip(-128, 127)
    scale = w.scale.reshape(-1)
    return quantized(codes, cuda.activations[1], x.scale), quantized(w.codes, cuda.weights[scale.size == 1], scale)


@pytest.mark.skipif("onednn" not in torch.backends.quantized.supported_engines, reason="torch has no onednn engine")
@pytest.mark.skipif(not torch.cpu._is_avx2_supported(), reason="the instructions are those of x86 with AVX2")
def test_x86_avx2__gives_the_codes_of_onednn_without_vnni(fresh_python):
    """oneDNN reads its limit when it starts, so the comparison runs in an interpreter of its own."""
    code = f"import sys\nsys.path.insert(0, {HELPERS!r})\n" + textwrap.dedent(
        """
        import json, warnings
        import numpy as np
        import torch
        from torch_operators import conv, linear
        from simulator import targets
        from simulator.arithmetic.geometry import Geometry
        from target_problems import SCALES, quantized, scales_of

        warnings.simplefilter("ignore")
        torch.backends.quantized.engine = "onednn"
        target, exact = targets.target("x86-avx2"), targets.target("torch-onednn")
        rng = np.random.default_rng(5)
        found = []
        for scales in SCALES:
            for per_channel in (False, True):
                for extreme in (False, True):
                    x_scale, w_scale, y_scale = scales_of(rng, scales, 16, per_channel)
                    y_scale = np.float32(y_scale * 512) if extreme else y_scale
                    left = [0, 1, 128, 200, 255] if extreme else range(20)
                    right = [-128, -90, -1, 64, 90, 127] if extreme else range(-10, 11)
                    bias = (rng.integers(-40, 40, 16) / 2 * y_scale).astype("f4")
                    output = targets.OutputSpec(y_scale, 128, target.outputs[0])
                    x = quantized(rng.choice(left, (64, 33)), target.activations[0], x_scale, 7)
                    w = quantized(rng.choice(right, (16, 33)), target.weights[per_channel], w_scale)
                    ours, theirs = targets.linear(target, x, w, bias, output), linear(x, w, bias, output)
                    vnni = targets.linear(exact, x, w, bias, output)
                    found.append(["linear", int((ours.values != theirs).sum()), ours.overflowed,
                                  int((vnni.values != theirs).sum())])
                    x = quantized(rng.choice(left, (1, 6, 7, 5)), target.activations[0], x_scale, 7)
                    w = quantized(rng.choice(right, (16, 5, 3, 3)), target.weights[per_channel], w_scale)
                    geometry = Geometry.of(2, padding=1)
                    ours = targets.conv(target, x, w, bias, geometry, output)
                    theirs = conv(x, w, bias, geometry, output)
                    vnni = targets.conv(exact, x, w, bias, geometry, output)
                    found.append(["conv", int((ours.values != theirs).sum()), ours.overflowed,
                                  int((vnni.values != theirs).sum())])
        print(json.dumps(found))
        """
    )
    done = fresh_python(code, ONEDNN_MAX_CPU_ISA="AVX2", OMP_NUM_THREADS="1")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(found) == 16
    assert [mismatches for _, mismatches, _, _ in found] == [0] * 16
    for name in ("linear", "conv"):
        assert sum(overflowed for kind, _, overflowed, _ in found if kind == name) > 200
        assert sum(exact for kind, _, _, exact in found if kind == name) > 200
