"""Claim: the tflite targets give LiteRT's int8 codes of FULLY_CONNECTED and CONV_2D, each with its own set of kernels.

Problems are dense in ties; a float bias becomes int32 by ``quantize_bias`` first.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

try:
    import litert_models as litert
except ImportError as error:
    if os.environ.get("QNOISE_REQUIRE_PEERS") == "1":
        raise
    pytest.skip(f"ai-edge-litert or flatbuffers is absent: {error}", allow_module_level=True)

from target_problems import SCALES, quantized, scales_of

from simulator import targets
from simulator.arithmetic.geometry import Geometry

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = {"tflite-reference": "reference", "tflite-ruy": "ruy", "tflite-xnnpack": "xnnpack"}
every_target = pytest.mark.parametrize("name", NAMES)
every_scale = pytest.mark.parametrize("scales", SCALES)
every_granularity = pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])


def problem(rng, target, scales, per_channel, x_shape, w_shape, largest):
    """(x, w, bias, output, layer): the layer holds the same, channels last."""
    outputs = w_shape[0]
    x_scale, w_scale, y_scale = scales_of(rng, scales, outputs, per_channel)
    x = quantized(rng.integers(-largest, largest, x_shape), target.activations[0], x_scale, 5)
    w = quantized(rng.integers(-largest, largest, w_shape), target.weights[per_channel], w_scale)
    bias = targets.quantize_bias((rng.integers(-40, 40, outputs) / 2 * y_scale).astype(np.float32), x_scale, w_scale)
    kernel = w.codes if w.codes.ndim == 2 else w.codes.transpose(0, 2, 3, 1).copy()
    layer = litert.Layer(kernel, x_scale, w_scale, y_scale, 5, -3, bias)
    return x, w, bias, targets.OutputSpec(y_scale, -3, target.outputs[0]), layer


@every_target
@every_scale
@every_granularity
def test_linear__gives_the_codes_of_fully_connected(name, scales, per_channel):
    target, rng = targets.target(name), np.random.default_rng(1)
    for largest in (9, 40):
        x, w, bias, output, layer = problem(rng, target, scales, per_channel, (192, 8), (48, 8), largest)
        ours = targets.linear(target, x, w, bias, output)
        assert np.count_nonzero(ours.values != litert.run(layer, x.codes, NAMES[name])) == 0


@every_target
@every_scale
@every_granularity
def test_conv__gives_the_codes_of_conv_2d(name, scales, per_channel):
    target, rng = targets.target(name), np.random.default_rng(2)
    for largest in (4, 20):
        x, w, bias, output, layer = problem(rng, target, scales, per_channel, (2, 9, 10, 5), (24, 5, 3, 3), largest)
        ours = targets.conv(target, x, w, bias, Geometry.of(2), output)
        assert np.count_nonzero(ours.values != litert.run(layer, x.codes, NAMES[name])) == 0
