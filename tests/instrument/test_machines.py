"""Claim: each machine computes its documented arithmetic; two that compute the same site give the same bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from samplers.errors import BadInput
from simulator import targets
from simulator.arithmetic import blockscale
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.block_formats import MXFP4, MXFP6_E2M3, MXFP8_E4M3, MXINT8, NVFP4
from simulator.arithmetic.block_integers import block_integers
from simulator.arithmetic.float_formats import BFLOAT16, FLOAT16
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.granularity import PerAxis
from simulator.arithmetic.group_sums import GroupRegister
from simulator.arithmetic.matmul import integer_matmul
from simulator.arithmetic.pair_accumulator import PairAccumulator, Pairing
from simulator.arithmetic.quantizer import dequantize, parameters_from_range, quantize, quantize_to_range
from simulator.arithmetic.requantize import OnnxRuntimeRequantizer
from simulator.instrument.contractions import Conv, ConvTranspose, Linear, MatMul
from simulator.instrument.machines.byte_codes import ByteCodes
from simulator.instrument.machines.machine import Affine
from simulator.instrument.machines.registers import Registers
from simulator.instrument.resolution import resolved
from simulator.instrument.rungs import Rung, machine
from simulator.instrument.scheme import DEFAULTS, ActivationRange, Scheme, Settings
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts

F32 = np.float32


def make(operation):
    """One contraction of each form, of odd sizes."""
    torch.manual_seed(3)
    image, bias = torch.randn(2, 6, 5, 7), torch.randn(4)
    return {
        "linear": Linear(torch.randn(3, 5, 37), torch.randn(11, 37), torch.randn(11)),
        "conv2d": Conv(image, torch.randn(4, 6, 3, 2), bias, Geometry.of(2, stride=(2, 1), padding=1)),
        "conv2d grouped": Conv(image, torch.randn(4, 3, 3, 3), bias, Geometry.of(2, padding=1, groups=2)),
        "conv2d wide": Conv(
            torch.randn(2, 70, 4, 4), torch.randn(4, 35, 3, 3), bias, Geometry.of(2, padding=1, dilation=2, groups=2)
        ),
        "conv_transpose2d": ConvTranspose(
            image, torch.randn(6, 2, 3, 3), bias, Geometry.of(2, stride=2, groups=2), (1, 0)
        ),
        "matmul": MatMul(torch.randn(2, 3, 5, 37), torch.randn(3, 4, 37), ("left", "right")),
        "pv": MatMul(torch.rand(2, 5, 37).softmax(-1), torch.randn(2, 4, 37), ("probability", "value")),
    }[operation]


OPERATIONS = ("linear", "conv2d", "conv2d grouped", "conv2d wide", "conv_transpose2d", "matmul", "pv")


def facts_of(operation, contraction):
    weight = None if isinstance(contraction, MatMul) else tuple(contraction.weight.shape)
    key = SiteKey("layer", operation.split()[0])
    contracted = None if isinstance(contraction, MatMul) else contraction.contracted
    return SiteFacts(
        key, tuple(contraction.activations()), weight, 1, edge=False, operands=1, batched=True, contracted=contracted
    )


def treated(operation, contraction, scheme):
    settings = DEFAULTS | (Scheme.parse(scheme).settings if isinstance(scheme, str) else scheme)
    target = Scheme.parse(scheme).target if isinstance(scheme, str) else None
    return resolved(settings, facts_of(operation, contraction), target)


def parameters(treatment, contraction):
    found = {}
    for role, tensor in (*contraction.activations().items(), ("output", contraction.float())):
        operand = treatment.operands.get(role)
        spec = treatment.output if role == "output" else operand and operand.spec
        if spec is not None:
            share = {"probability": 0, "output": 0.4}.get(role, 0.9)
            low, high = (share * float(tensor.min()), share * float(tensor.max())) if share else (0.0, 1.0)
            scale, zero = parameters_from_range(np.array(low), np.array(high), spec)
            found[role] = Affine(F32(scale), int(zero))
    return found


def run(kind, treatment, contraction):
    built = kind(treatment, parameters(treatment, contraction))
    weight = None if isinstance(contraction, MatMul) else built.prepare(contraction, contraction.weight)
    return built(contraction, weight)


def same(left, right):
    assert left.output.shape == right.output.shape
    assert torch.equal(left.output.contiguous().view(torch.int32), right.output.contiguous().view(torch.int32))
    assert (left.clipped, left.overflowed, left.saturated) == (right.clipped, right.overflowed, right.saturated)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("scheme", ["w8a8", "w4a6", "w4g2a8", "w3g16a8-dyn", "w8a8-floor", "w8a8o8", "w4a8o16-dyn"])
def test_registers__give_the_bits_of_the_fast_path(operation, scheme):
    contraction = make(operation)
    treatment = treated(operation, contraction, scheme)
    if not ByteCodes.takes(treatment, operation):
        assert treatment.output is not None
        assert operation in ("conv_transpose2d", "matmul", "pv")
        return
    found = run(ByteCodes, treatment, contraction)
    assert found.clipped > 0 or scheme.endswith("dyn") or operation == "pv"
    same(found, run(Registers, treatment, contraction))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_registers__a_wide_enough_register_changes_nothing_and_a_narrow_one_loses(operation):
    contraction = make(operation)
    exact = run(Registers, treated(operation, contraction, "w8a8"), contraction)
    for bits, overflow in ((40, Overflow.SATURATE), (40, Overflow.WRAP)):
        wide = Settings(accumulator=Accumulator(bits, overflow))
        same(exact, run(Registers, treated(operation, contraction, wide), contraction))
    narrow = run(Registers, treated(operation, contraction, "w8a8-acc12"), contraction)
    assert narrow.overflowed > 0
    assert not torch.equal(narrow.output, exact.output)


@pytest.mark.parametrize("scheme", ["w16a16", "w12a9-dynrow", "w4a16o16"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_registers__wide_codes_are_near_float(operation, scheme):
    contraction = make(operation)
    treatment = treated(operation, contraction, scheme)
    if scheme.endswith("o16") and scheme != "w4a16o16":
        return
    share = {"probability": 1, "output": 0.4}
    narrow = parameters(treatment, contraction).items()
    built = Registers(
        treatment, {role: Affine(F32(p.scale / share.get(role, 0.9)), p.zero_point) for role, p in narrow}
    )
    weight = None if isinstance(contraction, MatMul) else built.prepare(contraction, contraction.weight)
    want, found = contraction.float(), built(contraction, weight)
    error = (found.output - want).square().mean() / want.square().mean()
    assert error < {"w16a16": 1e-7, "w12a9-dynrow": 1e-3, "w4a16o16": 3e-2}[scheme]


def test_registers__a_limited_group_sum_requantized_equals_its_derivation():
    """int4 weights in groups of 16, a 9-bit saturating register, bfloat16 group sums, 16-bit output, step by step."""
    contraction = make("linear")
    machine_ = Settings(
        weight_bits=4, group_size=16, output_bits=16, accumulator=Accumulator(9, Overflow.SATURATE),
        group_register=GroupRegister(BFLOAT16),
    )  # fmt: skip
    treatment = treated("linear", contraction, machine_)
    given = parameters(treatment, contraction)
    found = run(Registers, treatment, contraction)
    x = np.clip(np.rint(contraction.input.numpy() / given["input"].scale) + given["input"].zero_point, 0, 255)
    weight = quantize_to_range(contraction.weight.numpy(), treatment.weight)
    total, lost = None, 0

    def bf16(values):
        return torch.from_numpy(np.asarray(values, F32)).to(torch.bfloat16).float().numpy()

    for group, start in enumerate(range(0, 37, 16)):
        sums = np.zeros((3, 5, 11), np.int64)
        saturated = np.zeros(sums.shape, bool)
        for k in range(start, min(start + 16, 37)):
            exact = sums + (x[..., k, None].astype(np.int64) - given["input"].zero_point) * weight.codes[:, k]
            sums = np.clip(exact, -256, 255)
            saturated |= sums != exact
        lost += saturated.sum()
        part = bf16(sums.astype(F32) * (given["input"].scale * weight.scale[:, group]))
        total = part if total is None else bf16(total + part)
    total = bf16(total + contraction.bias.numpy())
    into = given["output"]
    codes = np.clip(np.rint(total / into.scale) + into.zero_point, 0, 65535)
    assert np.array_equal(found.output.numpy(), (codes - into.zero_point).astype(F32) * into.scale)
    assert found.overflowed == lost > 0


def test_byte_codes__requantize_the_integer_sum_with_its_integer_bias():
    contraction = make("linear")
    treatment = treated("linear", contraction, "w8a8o8")
    given = parameters(treatment, contraction)
    x = np.clip(np.rint(contraction.input.numpy() / given["input"].scale) + given["input"].zero_point, 0, 255)
    weight = quantize_to_range(contraction.weight.numpy(), treatment.weight)
    sums = (x.astype(np.int64) - given["input"].zero_point) @ weight.codes.T.astype(np.int64)
    scale = weight.scale.reshape(-1)
    bias = targets.quantize_bias(contraction.bias.numpy(), given["input"].scale, scale)
    into = given["output"]
    kernel = OnnxRuntimeRequantizer(
        given["input"].scale, scale, into.scale, into.zero_point, treatment.output.format, bias
    )
    codes = np.array([kernel.one(int(v), i % 11)[0] for i, v in enumerate(sums.reshape(-1))])
    want = ((codes - into.zero_point).astype(F32) * into.scale).reshape(3, 5, 11)
    assert np.array_equal(run(ByteCodes, treatment, contraction).output.numpy(), want)


@pytest.mark.parametrize("name", ["onnxruntime", "torch-fbgemm", "tflite-reference", "onnx-matmulnbits"])
def test_on_target__is_the_targets_own_operation(name):
    machine_ = targets.TARGETS[name]
    bits, size = machine_.weights[0].format.bits, machine_.weights[0].granularity.group_size(1) or 0
    outputs = machine_.outputs[0].bits if machine_.outputs else 0
    contraction = make("linear")
    settings = DEFAULTS | Settings(weight_bits=bits, group_size=size, activation_bits=8, output_bits=outputs or None)
    treatment = resolved(settings, facts_of("linear", contraction), machine_)
    given = parameters(treatment, contraction)
    found = run(lambda t, _: machine(t, "linear", given), treatment, contraction)
    rows = contraction.input.numpy().reshape(-1, 37)
    if name == "onnx-matmulnbits":
        x = targets.quantize_activation(machine_, rows)
    else:
        shape = treatment.operands["input"].spec.granularity.parameter_shape(rows.shape)
        x = targets.quantize_activation(
            machine_, rows, np.full(shape, given["input"].scale, F32),
            np.full(shape, given["input"].zero_point, np.int32),
        )  # fmt: skip
    w = targets.quantize_weight(machine_, contraction.weight.numpy(), spec=treatment.weight)
    bias, output = contraction.bias.numpy(), None
    if outputs:
        output = targets.OutputSpec(given["output"].scale, given["output"].zero_point, machine_.outputs[0])
        if machine_.linear.bias is targets.BiasKind.INT32:
            bias = targets.quantize_bias(bias, given["input"].scale, w.scale.reshape(-1))
    want = targets.linear(machine_, x, w, bias, output)
    values = want.values
    if outputs:
        values = (values.astype(F32) - F32(output.zero_point)) * output.scale
    assert np.array_equal(found.output.numpy().reshape(-1, 11), values)
    assert (found.clipped, found.overflowed, found.saturated) == (x.clipped, want.overflowed, want.saturated)


@pytest.mark.parametrize("format", [MXINT8, MXFP4, MXFP6_E2M3, NVFP4], ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_block_integers__are_the_same_numbers(format, axis):
    x = np.random.default_rng(5).standard_normal((35, 34, 33)).astype(F32) * F32(10)
    x[:, :20] = 0  # blocks of zeros
    blocks = blockscale.quantize(x, format, axis)
    assert np.array_equal(dequantize(block_integers(blocks)), blockscale.dequantize(blocks))
    with pytest.raises(BadInput, match="byte"):
        block_integers(blockscale.quantize(x, MXFP8_E4M3))


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if "transpose" not in name])
@pytest.mark.parametrize("block", ["mxint8", "mxfp4", "mxfp6", "nvfp4"])
def test_blocks__are_fake_quant_up_to_float32s_rounding(operation, block):
    contraction = make(operation)
    treatment = treated(operation, contraction, Settings(block=block))
    found = run(lambda t, p: machine(t, operation, p), treatment, contraction)
    fake = run(lambda t, p: machine(t, operation, p, Rung.FAKE_QUANT), treatment, contraction)
    assert found.output.shape == fake.output.shape
    assert torch.allclose(found.output, fake.output, rtol=1e-5, atol=2e-5)
    assert not torch.allclose(found.output, contraction.float(), rtol=1e-3, atol=1e-3)


def test_blocks__sum_each_block_exactly_and_add_in_float32_in_order():
    contraction = make("linear")
    treatment = treated("linear", contraction, Settings(block="mxfp4"))
    found = run(lambda t, p: machine(t, "linear", p), treatment, contraction)
    x, w = (
        blockscale.dequantize(blockscale.quantize(t.numpy().reshape(-1, 37), MXFP4), np.float64)
        for t in (contraction.input, contraction.weight)
    )
    for m in (0, 7, 14):
        for n in range(11):
            total = F32(0)
            for start in (0, 32):
                pairs = zip(x[m, start : start + 32], w[n, start : start + 32], strict=True)
                terms = [Fraction(a) * Fraction(b) for a, b in pairs]
                total = F32(total + F32(float(sum(terms))))
            want = F32(total + contraction.bias.numpy()[n])
            assert found.output.numpy().reshape(-1, 11)[m, n] == want


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("scheme", ["w8a8", "w4g2a6", "w8a8-dynrow"])
def test_fake_quant__differs_from_integers_by_float32s_rounding_only(operation, scheme):
    contraction = make(operation)
    treatment = treated(operation, contraction, scheme)
    exact = run(Registers, treatment, contraction)
    fake = run(lambda t, p: machine(t, operation, p, Rung.FAKE_QUANT), treatment, contraction)
    assert torch.allclose(exact.output, fake.output, rtol=1e-5, atol=1e-5)
    assert exact.clipped == fake.clipped
    parts = {
        rung: run(lambda t, p, rung=rung: machine(t, operation, p, rung), treatment, contraction).output
        for rung in (Rung.WEIGHTS, Rung.ACTIVATIONS)
    }
    if isinstance(contraction, MatMul):
        assert torch.equal(parts[Rung.WEIGHTS], contraction.float())
        assert torch.equal(parts[Rung.ACTIVATIONS], fake.output)
    else:
        assert not torch.allclose(parts[Rung.WEIGHTS], parts[Rung.ACTIVATIONS], rtol=1e-3)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_rungs__climb_from_exact_sums_to_the_whole_scheme(operation):
    contraction = make(operation)
    treatment = treated(operation, contraction, "w8a8o8-acc17")
    outputs = {rung: run(lambda t, p, r=rung: machine(t, operation, p, r), treatment, contraction) for rung in Rung}
    plain = run(Registers, treated(operation, contraction, "w8a8"), contraction)
    assert torch.equal(outputs[Rung.INTEGERS].output, plain.output)
    limited = run(Registers, treated(operation, contraction, "w8a8-acc17"), contraction)
    same(outputs[Rung.REGISTER], limited)
    assert outputs[Rung.COMPLETE].saturated > 0


def test_rungs__take_a_targets_register_without_its_requantizer():
    contraction = make("linear")
    settings = DEFAULTS | Settings(output_bits=8)
    treatment = resolved(settings, facts_of("linear", contraction), targets.TARGETS["x86-avx2"])
    given = parameters(treatment, contraction)
    with_pairs, exact = (
        run(lambda t, _, r=rung: machine(t, "linear", given, r), treatment, contraction)
        for rung in (Rung.REGISTER, Rung.INTEGERS)
    )
    x = quantize(
        contraction.input.numpy().reshape(-1, 37), treatment.operands["input"].spec,
        np.full((1, 1), given["input"].scale, F32), np.full((1, 1), given["input"].zero_point, np.int32),
    )  # fmt: skip
    w = quantize_to_range(contraction.weight.numpy(), treatment.weight)
    want = integer_matmul(
        x.codes, w.codes, targets.TARGETS["x86-avx2"].linear.accumulator, x_zero=given["input"].zero_point
    )
    assert with_pairs.overflowed == want.overflowed
    assert with_pairs.overflowed == 0 or not torch.equal(with_pairs.output, exact.output)


@pytest.mark.parametrize("format", [FLOAT16, BFLOAT16], ids=str)
def test_intermediates__are_rounded_after_every_operation(format):
    from simulator.instrument.intermediates import rounding

    kind = torch.float16 if format == FLOAT16 else torch.bfloat16
    module = nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU(), nn.Softmax(-1))
    x = torch.randn(2, 4, 6).to(kind).float()
    want = x
    with torch.no_grad():
        for layer in module:
            want = layer(want).to(kind).float()
        with rounding(format):
            found = module(x)
            added = found + x
            view = added.reshape(-1)[3:5]
            added.mul_(1 / 3)
    assert torch.equal(found, want)
    assert torch.equal(view, added.reshape(-1)[3:5])
    assert torch.equal(added, added.to(kind).float())
    assert torch.equal(added, ((found + x).to(kind).float() / 3).to(kind).float()) or format == FLOAT16


def target_settings(name):
    """Formats that a target has, and ranges that it takes."""
    machine_ = targets.TARGETS[name]
    weight = max(machine_.weights, key=lambda spec: spec.granularity == PerAxis((0,)))
    rows = all(spec.granularity == PerAxis((0,)) for spec in machine_.activations)
    return machine_, DEFAULTS | Settings(
        weight_bits=weight.format.bits, group_size=weight.granularity.group_size(1) or 0,
        output_bits=machine_.outputs[0].bits if machine_.outputs else 0,
        activation_range=ActivationRange.ROW if rows else ActivationRange.STATIC,
    )  # fmt: skip


@pytest.mark.parametrize("operation", ["linear", "conv2d", "matmul", "pv"])
@pytest.mark.parametrize("name", [name for name, t in targets.TARGETS.items() if t.activations])
def test_rungs__of_every_target_are_near_its_own_fake_quant(name, operation):
    """Zero points of weights, one scale per tensor, blocks, rows: whatever a target has, every rung computes it."""
    contraction = make(operation)
    machine_, settings = target_settings(name)
    kind = {"linear": "linear", "conv2d": "conv"}.get(operation, "matmul")
    if machine_.kernels[kind] is None:
        with pytest.raises(BadInput, match="kernel for every site"):
            resolved(settings, facts_of(operation, contraction), machine_)
        return
    treatment = resolved(settings, facts_of(operation, contraction), machine_)
    given = parameters(treatment, contraction)
    fake, *rungs = (
        run(lambda t, _, r=rung: machine(t, operation, given, r), treatment, contraction)
        for rung in (Rung.FAKE_QUANT, Rung.INTEGERS, Rung.REGISTER, Rung.COMPLETE)
    )
    power = fake.output.square().mean()
    assert (fake.output - contraction.float()).square().mean() < 0.05 * contraction.float().square().mean()
    assert (rungs[0].output - fake.output).square().mean() < 1e-10 * power
    lost = 0.2 if rungs[1].overflowed else 1e-4 if "nbits" in name else 1e-10  # saturated pairs; blocks, not rows
    assert (rungs[1].output - fake.output).square().mean() < lost * power
    clipped = contraction.float().clamp(0.4 * contraction.float().min(), 0.4 * contraction.float().max())
    want = clipped if treatment.output is not None else fake.output
    assert (rungs[2].output - want).square().mean() < (0.1 if treatment.output is not None else lost) * power


def test_byte_codes__take_no_outputs_of_two_run_time_operands_whatever_the_operation_is_called():
    contraction = MatMul(torch.randn(5, 7), torch.randn(6, 7), ("left", "right"))
    treatment = resolved(DEFAULTS | Settings(output_bits=4), facts_of("addmm", contraction), None)
    found = run(lambda t, p: machine(t, "addmm", p), treatment, contraction)
    assert len(found.output.unique()) <= 16


def test_registers__refuse_a_sum_that_the_bias_takes_beyond_int32():
    contraction = Linear(torch.linspace(0, 1, 9)[:, None], torch.ones(1, 1), torch.tensor([0.5]))
    settings = DEFAULTS | Settings(weight_bits=16, activation_bits=16, output_bits=16)
    treatment = resolved(settings, facts_of("linear", contraction), None)
    with pytest.raises(BadInput, match="the bias included"):
        run(Registers, treatment, contraction)


def test_registers__groups_of_a_transposed_convolution_lie_along_its_input_channels():
    image, weight = torch.randn(1, 16, 3, 3), torch.randn(16, 64, 2, 2)
    contraction = ConvTranspose(image, weight, None, Geometry.of(2, stride=2), (0, 0))
    row = DEFAULTS | Settings(group_size=32, output_bits=8, activation_range=ActivationRange.ROW)
    facts = facts_of("conv_transpose2d", contraction)
    with pytest.raises(BadInput, match="one activation scale"):  # 16 channels are one group
        resolved(row, facts, None)
    found = run(Registers, resolved(row | Settings(group_size=8), facts, None), contraction)
    assert found.output.shape == (1, 64, 6, 6)


@pytest.mark.parametrize(
    "settings",
    [{"block": "mxfp4", "output_bits": 8}, {"block": "mxfp4", "accumulator": Accumulator(20, Overflow.SATURATE)},
     {"accumulator": PairAccumulator(Pairing.CHANNELS), "weight_bits": 9},
     {"accumulator": PairAccumulator(Pairing.CHANNELS), "activation_range": ActivationRange.ROW}],
)  # fmt: skip
def test_resolution__refuses_settings_that_would_be_ignored_or_fail_later(settings):
    contraction = make("linear")
    with pytest.raises(BadInput, match="layer:linear"):
        resolved(DEFAULTS | Settings(**settings), facts_of("linear", contraction), None)


def test_resolution__refuses_role_widths_on_a_target():
    contraction = make("matmul")
    facts = facts_of("qk", MatMul(contraction.left, contraction.right, ("query", "key")))
    with pytest.raises(BadInput, match="query_bits"):
        resolved(DEFAULTS | Settings(query_bits=4), facts, targets.TARGETS["onnxruntime"])


def test_intermediates__leave_parameters_as_they_are():
    from simulator.instrument.intermediates import rounding

    weight, position = torch.nn.Parameter(torch.randn(3, 4)), torch.randn(4)
    before, drop = (weight.clone(), position.clone()), nn.Dropout().eval()
    with torch.inference_mode(), rounding(BFLOAT16):
        view = weight.detach().t_()
        found = drop(position) * 1.0 + view.sum()
        turned = torch.polar(torch.ones(3), torch.rand(3)) * torch.complex(torch.rand(3), torch.rand(3))
    assert torch.equal(weight, before[0])
    assert torch.equal(position, before[1])
    for tensor in (found, turned.real, turned.imag):
        assert torch.equal(tensor, tensor.to(torch.bfloat16).float())
