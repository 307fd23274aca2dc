"""Claim: weights, symmetric or not, per tensor, channel or group, over their own or given bounds, are the same codes in
every machine, and their products are the integers that Python's loops give.

Data lie on half steps of power-of-two scales, so that half of all codes are ties and many are clipped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_weights import F32, epilogue, own_parameters, places, steps, sums

from samplers.errors import BadInput
from simulator import targets
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.quantizer import parameters_from_range
from simulator.instrument.contractions import Conv, ConvTranspose, Linear
from simulator.instrument.emulation import prepared
from simulator.instrument.machines.byte_codes import ByteCodes
from simulator.instrument.machines.machine import Affine
from simulator.instrument.machines.registers import Registers
from simulator.instrument.resolution import resolved
from simulator.instrument.rungs import Rung, machine
from simulator.instrument.scheme import DEFAULTS, Settings, WeightGranularity
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.instrument.weight_codes import WeightBounds
from simulator.rounded_operands import operands

X = Affine(F32(0.25), 100)

TENSOR = WeightGranularity.TENSOR
SETTINGS = {
    "channel": Settings(weight_bits=4),
    "tensor": Settings(weight_bits=4, weight_granularity=TENSOR),
    "groups": Settings(weight_bits=4, group_size=2),
    "asymmetric": Settings(weight_bits=4, weight_symmetric=False),
    "asymmetric tensor": Settings(weight_bits=4, weight_symmetric=False, weight_granularity=TENSOR),
    "asymmetric groups": Settings(weight_bits=4, weight_symmetric=False, group_size=2),
    "asymmetric bytes": Settings(weight_bits=8, weight_symmetric=False),
    "asymmetric wide": Settings(weight_bits=12, weight_symmetric=False),
}
OPERATIONS = ("linear", "conv2d", "conv2d grouped", "conv2d depthwise", "conv_transpose2d", "conv_transpose2d grouped")


def make(operation):
    rng = np.random.default_rng(8)

    def numbers(*shape, step, reach):
        return torch.from_numpy(rng.integers(-reach, reach + 1, shape).astype(F32) * F32(step))

    def weight(*shape):
        return numbers(*shape, step=2**-4, reach=22) + F32(2**-3)

    image = numbers(2, 6, 4, 3, step=2**-3, reach=300)
    bias = numbers(4, step=2**-5, reach=90)
    return {
        "linear": lambda: Linear(numbers(2, 3, 7, step=2**-3, reach=300), weight(4, 7), bias),
        "conv2d": lambda: Conv(image, weight(4, 6, 3, 2), bias, Geometry.of(2, stride=(2, 1), padding=1)),
        "conv2d grouped": lambda: Conv(image, weight(4, 3, 2, 3), bias, Geometry.of(2, padding=1, groups=2)),
        "conv2d depthwise": lambda: Conv(image, weight(6, 1, 3, 3), None, Geometry.of(2, padding=1, groups=6)),
        "conv_transpose2d": lambda: ConvTranspose(
            image, weight(6, 4, 2, 3), bias, Geometry.of(2, stride=(2, 1), padding=1), (1, 0)
        ),
        "conv_transpose2d grouped": lambda: ConvTranspose(
            image, weight(6, 2, 3, 2), bias, Geometry.of(2, stride=2, dilation=2, groups=2), (0, 1)
        ),
    }[operation]()


def treated(operation, contraction, settings):
    facts = SiteFacts(
        SiteKey("layer", operation.split()[0]), ("input",), tuple(contraction.weight.shape), 1, edge=False, operands=1,
        batched=True, contracted=contraction.contracted,
    )  # fmt: skip
    return resolved(DEFAULTS | settings, facts, None)


def given(spec, shape):
    """Bounds whose scales are powers of two and whose zero points differ, in the parameter shape."""
    rank = np.arange(np.prod(shape)).reshape(shape)
    scale = 2.0 ** -(3 + rank % 2)
    if spec.symmetric:
        high = spec.format.qmax * scale
        return np.where(rank % 3 == 1, -high, -0.5 * high), np.where(rank % 3 == 1, 0.5 * high, high)
    zero = 4 + rank % 3
    return -zero * scale, (spec.format.qmax - zero) * scale


class Plain:
    """Python's form: ``code - zero`` of each weight element in its own layout, scales (outputs, groups)."""

    def __init__(self, contraction, treatment, bounds):
        spec, weight = treatment.weight, contraction.weight.numpy()
        outputs, channels = max(n for _, n, _ in places(contraction)) + 1, contraction.contracted
        self.size = spec.granularity.group_size(1) or channels
        self.scale = np.empty((outputs, -(-channels // self.size)))
        shape = spec.granularity.parameter_shape((outputs, channels, *weight.shape[2:]))
        members = {}
        for index, output, channel in places(contraction):
            members.setdefault((output % shape[0], channel // self.size), []).append((index, output))
        self.steps, self.clipped = np.empty(weight.shape, object), 0
        self.real = np.empty(weight.shape, F32)
        for (row, group), elements in members.items():
            values = [weight[index] for index, _ in elements]
            if bounds is not None:
                values = [bound[row, group].item() for bound in (bounds.low, bounds.high)]
            scale, zero = own_parameters(values, spec.symmetric, spec.format.qmax)
            for index, output in elements:
                self.steps[index], clipped = steps(weight[index], scale, zero, spec.format.qmin, spec.format.qmax)
                self.clipped += clipped
                self.real[index] = F32(self.steps[index]) * scale
                self.scale[output, group] = scale

    def output(self, contraction):
        x = np.vectorize(lambda v: steps(v, X.scale, X.zero_point, 0, 255)[0], otypes=[object])
        found = sums(contraction, x(contraction.input.numpy()), self.steps, self.size)
        axis = -1 if isinstance(contraction, Linear) else 1
        return epilogue(found, X.scale, self.scale, contraction.bias, axis)


@pytest.fixture(params=OPERATIONS)
def operation(request):
    return request.param


@pytest.fixture(params=SETTINGS)
def site(operation, request):
    """(contraction, treatment without bounds, operation)."""
    contraction = make(operation)
    return contraction, treated(operation, contraction, SETTINGS[request.param]), operation


def bounded(contraction, treatment):
    outputs = max(n for _, n, _ in places(contraction)) + 1
    layout = (outputs, contraction.contracted, *contraction.weight.shape[2:])
    bounds = given(treatment.weight, treatment.weight.granularity.parameter_shape(layout))
    return replace(treatment, weight_bounds=WeightBounds(*bounds))


@pytest.mark.parametrize("bounds", ["own", "given"])
def test_every_machine__multiplies_the_codes_of_the_definition(site, bounds):
    contraction, treatment, operation = site
    if bounds == "given":
        treatment = bounded(contraction, treatment)
    plain = Plain(contraction, treatment, treatment.weight_bounds)
    want = plain.output(contraction)
    narrow = treatment.weight.format.bits <= 8
    assert ByteCodes.takes(treatment, operation) == narrow
    for kind in (ByteCodes, Registers) if narrow else (Registers,):
        built = kind(treatment, {"input": X})
        found = built(contraction, built.prepare(contraction, contraction.weight)).output.numpy()
        assert np.array_equal(found, want), kind
    fake = machine(treatment, operation, {"input": X}, Rung.WEIGHTS)
    assert np.array_equal(fake.prepare(contraction, contraction.weight).numpy(), plain.real)
    _, right = operands(contraction, treatment, {"input": X})
    assert np.array_equal((right.exact.double() + right.error.double()).numpy().astype(F32), plain.real)
    if bounds == "given":
        assert plain.clipped > 0 or treatment.weight.format.bits > 4
        assert Registers(treatment, {}).prepare(contraction, contraction.weight).clipped == plain.clipped
        assert not np.array_equal(plain.real, Plain(contraction, treatment, None).real)


def test_certificate__is_the_largest_sum_of_the_definition(site):
    contraction, treatment, _ = site
    treatment = bounded(contraction, treatment)
    plain = Plain(contraction, treatment, treatment.weight_bounds)
    totals = {}
    for index, output, channel in places(contraction):
        key = output, channel // plain.size
        totals[key] = totals.get(key, 0) + abs(plain.steps[index])
    if treatment.weight.format.bits > 8:
        with pytest.raises(BadInput, match="up to 8 bits"):
            prepared(contraction, contraction.weight, treatment.weight, treatment.weight_bounds)
        return
    packed = prepared(contraction, contraction.weight, treatment.weight, treatment.weight_bounds)
    assert packed.absolute_sum == max(totals.values())


@pytest.mark.parametrize(("name", "bits"), [("asymmetric", 12), ("asymmetric groups", 10), ("tensor", 11)])
def test_registers__saturate_at_each_product_of_steps(name, bits):
    contraction = make("linear")
    register = Accumulator(bits, Overflow.SATURATE)
    treatment = bounded(contraction, treated("linear", contraction, SETTINGS[name] | Settings(accumulator=register)))
    plain = Plain(contraction, treatment, treatment.weight_bounds)
    found = machine(treatment, "linear", {"input": X})
    found = found(contraction, found.prepare(contraction, contraction.weight))
    x = [[steps(v, X.scale, X.zero_point, 0, 255)[0] for v in row] for row in contraction.input.reshape(6, 7).tolist()]
    groups = plain.scale.shape[1]
    held, lost = np.zeros((groups, 6, 4), object), 0
    for g in range(groups):
        for m in range(6):
            for n in range(4):
                total, over = 0, False
                for k in range(g * plain.size, min((g + 1) * plain.size, 7)):
                    exact = total + x[m][k] * plain.steps[n, k]
                    total = min(max(exact, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)
                    over |= total != exact
                held[g, m, n], lost = total, lost + over
    want = epilogue(held, X.scale, plain.scale, contraction.bias, -1)
    assert np.array_equal(found.output.numpy().reshape(6, 4), want)
    assert found.overflowed == lost > 0


@pytest.mark.parametrize("name", ["asymmetric", "asymmetric tensor", "tensor"])
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if "transpose" not in name])
def test_requantized_outputs__are_the_same_on_both_paths(operation, name):
    contraction = make(operation)
    treatment = bounded(contraction, treated(operation, contraction, SETTINGS[name] | Settings(output_bits=8)))
    parameters = {"input": X, "output": Affine(F32(2.0), 120)}
    fast, general = (
        kind(treatment, parameters)(contraction, kind(treatment, parameters).prepare(contraction, contraction.weight))
        for kind in (ByteCodes, Registers)
    )
    assert torch.equal(fast.output, general.output)
    assert fast.saturated == general.saturated
    assert (fast.output - Registers(replace(treatment, output=None), parameters)(
        contraction, Registers(treatment, parameters).prepare(contraction, contraction.weight)
    ).output.clamp(-240, 270)).abs().max() < 1.5  # fmt: skip


@pytest.mark.parametrize("name", ["onnxruntime", "torch-fbgemm", "tflite-reference", "onnx-matmulnbits"])
def test_on_target__given_bounds_become_the_targets_parameters(name):
    target = targets.TARGETS[name]
    contraction = make("linear")
    spec = target.weights[-1]
    weight = contraction.weight.numpy()
    low, high = given(spec, spec.granularity.parameter_shape(weight.shape))
    made = targets.quantize_weight(target, weight, spec=spec, bounds=(low, high))
    scale, zero = parameters_from_range(low, high, spec)
    assert np.array_equal(made.scale, scale)
    assert np.array_equal(made.zero_point, zero)
    treatment = replace(
        treated("linear", contraction, Settings()), weight=spec, target=target, weight_bounds=WeightBounds(low, high)
    )
    found = machine(treatment, "linear", {"input": X}).prepare(contraction, contraction.weight)
    assert np.array_equal(found.codes, made.codes)
    assert np.array_equal(found.scale, scale)


def test_weight_bounds__are_equal_by_their_numbers_and_hold_them():
    low, high = np.array([[-1.0], [-2.0]]), np.array([[1.0], [2.0]])
    one, other = WeightBounds(low, high), WeightBounds(low.copy(), high.copy())
    assert one == other
    assert hash(one) == hash(other)
    high[0] = 3
    assert one == other != WeightBounds(low, high)
    assert one != WeightBounds(other.low.T, other.high.T)


SITE = r"layer:linear"


@pytest.mark.parametrize(
    "settings",
    [Settings(weight_granularity=TENSOR, group_size=4), Settings(weight_symmetric=False, block="mxfp4"),
     Settings(weight_granularity=TENSOR, block="mxint8")],
)  # fmt: skip
def test_resolution__names_the_site_of_what_the_engine_lacks(settings):
    with pytest.raises(BadInput, match=SITE):
        treated("linear", make("linear"), settings)


def test_resolution__pairs_take_no_unsigned_weights():
    from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing

    pairs = Settings(accumulator=PairAccumulator(Pairing.CHANNELS))
    treated("linear", make("linear"), pairs | Settings(weight_granularity=TENSOR))
    with pytest.raises(BadInput, match=SITE):
        treated("linear", make("linear"), pairs | Settings(weight_symmetric=False))


def test_resolution__a_target_gives_the_scales_asked_for_or_none():
    contraction = make("linear")
    facts = SiteFacts(SiteKey("layer", "linear"), ("input",), (4, 7), 1, edge=False, operands=1, batched=True)

    def spec(name, **settings):
        target = targets.TARGETS[name]
        outputs = target.outputs[0].bits if target.outputs and target.linear.epilogue is None else 0
        return resolved(DEFAULTS | Settings(output_bits=outputs, **settings), facts, target).weight

    per_output, per_tensor = spec("onnxruntime"), spec("onnxruntime", weight_granularity=TENSOR)
    assert per_output == spec("onnxruntime", weight_granularity=WeightGranularity.CHANNEL, weight_symmetric=True)
    assert per_output.granularity.parameter_shape((4, 7)) == (4, 1)
    assert per_tensor.granularity.parameter_shape((4, 7)) == (1, 1)
    with pytest.raises(BadInput, match=SITE):
        spec("onnxruntime", weight_symmetric=False)
    assert not spec("onnx-matmulnbits", weight_bits=4, group_size=32, weight_symmetric=False).symmetric
    with pytest.raises(BadInput, match=SITE):
        spec("onnx-matmulnbits", weight_bits=4, group_size=32, weight_symmetric=True)
    assert contraction.weight.shape == (4, 7)


def test_describe__says_what_differs():
    contraction = make("linear")
    described = {name: treated("linear", contraction, settings).describe() for name, settings in SETTINGS.items()}
    assert described["channel"] == "a8 w4"
    assert described["asymmetric tensor"] == "a8 w4 asymmetric per tensor"
    assert described["asymmetric groups"] == "a8 w4 g2 asymmetric"
