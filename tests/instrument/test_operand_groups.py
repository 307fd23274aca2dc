"""Claim: groups of channels of a run-time operand have their own scales, in integers: along the contracted axis each is
an exact partial sum, rescaled in float32 and added in the order of the groups' numbers; over heads and columns they are
free."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_modules import as_model

import simulator
from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Overflow, ZeroPoint
from simulator.arithmetic.float_formats import BFLOAT16
from simulator.arithmetic.geometry import Geometry
from simulator.arithmetic.group_sums import GroupOrder, GroupRegister
from simulator.calibration.channel_grouping import even_groups, grouped_ranges
from simulator.calibration.channels import PerChannel, PerHeadChannel
from simulator.calibration.ranges import Ranges
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import Conv, ConvTranspose, Linear, MatMul
from simulator.instrument.machines.byte_codes import ByteCodes
from simulator.instrument.machines.grouped_bytes import GroupedBytes
from simulator.instrument.machines.registers import Registers
from simulator.instrument.operand_groups import calibrated_groups
from simulator.instrument.resolution import resolved
from simulator.instrument.rungs import Rung, machine
from simulator.instrument.scheme import DEFAULTS, ActivationRange, Scheme, Settings
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts
from simulator.targets.named import target

F32 = np.float32
STEPS = [F32(2.0**-4), F32(2.0**-3), F32(3 * 2.0**-6), F32(0.07), F32(2.0**-5), F32(0.11), F32(2.0**-2), F32(0.05)]
ZEROS = [128, 100, 0, 255, 131, 77, 120, 140]
C = 12
SCATTERED = np.array([2, 0, 1, 1, 0, 2, 2, 0, 1, 0, 0, 2])


def ties(*shape, seed=0):
    """Multiples of 1/32, of which many lie halfway between codes."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-90, 91, shape).astype(F32) / 32)


def make(operation):
    image = ties(2, C, 4, 5)
    return {
        "linear": Linear(ties(2, 5, C), ties(7, C, seed=1), ties(7, seed=2)),
        "conv2d": Conv(image, ties(4, C, 3, 2, seed=1), ties(4, seed=2), Geometry.of(2, stride=(2, 1), padding=1)),
        "conv2d grouped": Conv(
            image, ties(4, C // 2, 3, 3, seed=1), None, Geometry.of(2, padding=2, dilation=2, groups=2)
        ),
        "conv_transpose2d": ConvTranspose(
            image, ties(C, 3, 3, 3, seed=1), ties(3, seed=2), Geometry.of(2, stride=2), (1, 0)
        ),
        "qk": MatMul(ties(2, 3, 4, C), ties(2, 3, 5, C, seed=1), ("query", "key")),
        "pv": MatMul(ties(2, 3, 4, 6).softmax(-1), ties(2, 3, C, 6, seed=1), ("probability", "value")),
        "matmul": MatMul(ties(4, C), ties(2, 5, C, seed=1), ("left", "right")),
    }[operation]


def site_of(operation, contraction):
    weight = None if isinstance(contraction, MatMul) else tuple(contraction.weight.shape)
    contracted = None if isinstance(contraction, MatMul) else contraction.contracted
    shapes = tuple((1, *t.shape[1:]) for t in (*contraction.operands(), contraction.float()))
    return SiteFacts(
        SiteKey("layer", operation.split()[0]), tuple(contraction.activations()), weight, 1, edge=False, operands=1,
        batched=True, contracted=contracted, shapes=shapes,
    )  # fmt: skip


def bounds_of(count):
    """Bounds that give STEPS and ZEROS with 8 unsigned bits."""
    steps, zeros = np.float64(np.resize(STEPS, count)), np.resize(ZEROS, count)
    return -steps * zeros, steps * (255 - zeros)


def ranges_of(facts, groups, output=None):
    bounds = {}
    for role in facts.roles:
        group = groups.get(role)
        low, high = bounds_of(1 if group is None else group.max() + 1)
        bounds[facts.key, role, "all"] = (low[0], high[0]) if group is None else (low, high)
    if output:
        bounds[facts.key, "output", "all"] = output
    arrays = {key: tuple(np.asarray(b) for b in pair) for key, pair in bounds.items()}
    return Ranges(arrays, {}, groups={(facts.key, role, "all"): group for role, group in groups.items()})


def run(operation, groups, rung=Rung.COMPLETE, output=None, general=False, **settings):
    contraction = make(operation)
    facts = site_of(operation, contraction)
    treatment = resolved(DEFAULTS | Settings(activation_groups=0, **settings), facts, None)
    ranges = ranges_of(facts, groups, output)
    parameters = calibrated(treatment, facts.key, ranges)
    own = calibrated_groups(treatment, facts, ranges)
    assert own.keys() == groups.keys()
    runs = machine(treatment, facts.key.operation, parameters, rung, own)
    assert not (groups and isinstance(runs, ByteCodes))
    if general:
        runs = Registers(treatment, parameters, own)
    weight = None if isinstance(contraction, MatMul) else runs.prepare(contraction, contraction.weight)
    return runs(contraction, weight)


def whole(values, group, axis, head_axis=None):
    """``code - zero point`` of each element as float64, its step, and the elements clipped: the scalar rule."""
    values = values.numpy()
    if group is None:
        group = np.zeros(values.shape[axis], int)
    shape = [1] * values.ndim
    shape[axis] = group.shape[-1]
    if group.ndim == 2:
        shape[head_axis] = len(group)
    step, zero = (np.array(each)[group % 8].reshape(shape) for each in (STEPS, ZEROS))
    codes = np.rint(values / step) + zero
    assert ((values / step) % 1 == 0.5).mean() > 0.02  # ties
    inside = np.clip(codes, 0, 255)
    return torch.from_numpy((inside - zero).astype(float)), step, int((codes != inside).sum())


def weight_codes(weight, axes):
    """int8 codes, narrow range, and the scale of each output."""
    w = weight.numpy()
    scale = (np.abs(w).max(axis=axes, keepdims=True).astype(float) / 127).astype(F32)
    return torch.from_numpy(np.rint(w / scale).astype(float)), scale.reshape(-1)


def in_order(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


@pytest.mark.parametrize("group", [SCATTERED, np.arange(C), np.arange(C)[::-1].copy(), np.arange(C) // 5])
@pytest.mark.parametrize("operation", ["linear", "conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("general", [False, True])
def test_groups__are_exact_partial_sums_added_in_the_order_of_their_numbers(operation, group, general):
    contraction = make(operation)
    axis = -1 if operation == "linear" else 1
    x, _, clipped = whole(contraction.input, group, axis)
    out_axis = 1 if operation == "conv_transpose2d" else 0
    w, w_scale = weight_codes(contraction.weight, tuple(i for i in range(contraction.weight.ndim) if i != out_axis))
    shape = [1] * x.ndim
    shape[axis] = C
    columns = (-1,) if operation == "linear" else (-1, 1, 1)
    parts = []
    for number in range(group.max() + 1):
        masked = x * torch.from_numpy((group == number).astype(float)).reshape(shape)
        sums = replace(contraction, input=masked, weight=w, bias=None).float().numpy()  # exact in float64
        parts.append(sums.astype(F32) * (STEPS[number % 8] * w_scale).reshape(columns))
    want = in_order(parts) + contraction.bias.numpy().reshape(columns)
    assert want.dtype == F32
    found = run(operation, {"input": group}, general=general)
    assert np.array_equal(found.output.numpy().view(np.int32), want.view(np.int32))
    assert found.clipped == clipped > 0
    backwards = in_order(parts[::-1]) + contraction.bias.numpy().reshape(columns)
    assert len(parts) < 3 or not np.array_equal(backwards, want)


@pytest.mark.parametrize("operation", ["linear", "conv2d", "conv2d grouped", "depthwise"])
@pytest.mark.parametrize("seed", range(3))
def test_grouped_bytes__are_the_registers_bits_for_unequal_groups(operation, seed):
    """More channels than a tile's step, groups of 1 to 60 of them."""
    random = np.random.default_rng(seed)
    channels, convolved = (64, 64) if operation == "depthwise" else (70, 1 + (operation == "conv2d grouped"))
    group = np.sort(np.minimum(random.geometric(0.3, channels // convolved) - 1, 5))
    random.shuffle(group)
    group = np.tile(np.unique(group, return_inverse=True)[1], convolved)
    if operation == "linear":
        contraction = Linear(ties(9, channels), ties(33, channels, seed=1), ties(33, seed=2))
    else:
        contraction = Conv(
            ties(2, channels, 5, 4), ties(64 if convolved == 64 else 40, channels // convolved, 3, 3, seed=1), None,
            Geometry.of(2, stride=(1, 2), padding=((1, 0), (2, 1)), groups=convolved),
        )  # fmt: skip
    facts = site_of(operation if operation == "linear" else "conv2d", contraction)
    treatment = resolved(DEFAULTS | Settings(activation_groups=0), facts, None)
    own = calibrated_groups(treatment, facts, ranges_of(facts, {"input": group}))
    fast, general = machine(treatment, facts.key.operation, {}, groups=own), Registers(treatment, {}, own)
    assert isinstance(fast, GroupedBytes)
    found, want = (each(contraction, each.prepare(contraction, contraction.weight)) for each in (fast, general))
    assert torch.equal(found.output.contiguous().view(torch.int32), want.output.contiguous().view(torch.int32))
    assert found.clipped == want.clipped


def test_groups__of_a_linear_layer_by_pythons_integers():
    """One output at a time, no arrays."""
    contraction, group = make("linear"), SCATTERED
    found = run("linear", {"input": group}).output.numpy().reshape(-1, 7)
    w, w_scale = weight_codes(contraction.weight, (1,))
    for m, row in enumerate(contraction.input.numpy().reshape(-1, C)):
        for n in range(7):
            total = None
            for number in (0, 1, 2):
                exact = 0
                for k in range(C):
                    if group[k] == number:
                        code = min(max(round(float(row[k] / STEPS[number])) + ZEROS[number], 0), 255)
                        exact += (code - ZEROS[number]) * int(w[n, k])
                part = F32(F32(exact) * F32(STEPS[number] * w_scale[n]))
                total = part if total is None else F32(total + part)
            assert found[m, n] == F32(total + contraction.bias.numpy()[n])


@pytest.mark.parametrize("general", [False, True])
def test_groups__in_a_grouped_convolution_cut_its_groups_alike(general):
    group = np.array([0, 1, 1, 0, 2, 1] * 2)
    contraction = make("conv2d grouped")
    x, _, clipped = whole(contraction.input, group, 1)
    w, w_scale = weight_codes(contraction.weight, (1, 2, 3))
    parts = []
    for number in range(3):
        masked = x * torch.from_numpy((group == number).astype(float)).reshape(1, C, 1, 1)
        sums = replace(contraction, input=masked, weight=w).float().numpy()
        parts.append(sums.astype(F32) * (STEPS[number] * w_scale).reshape(-1, 1, 1))
    found = run("conv2d grouped", {"input": group}, general=general)
    assert np.array_equal(found.output.numpy(), in_order(parts))
    assert found.clipped == clipped
    for other in (SCATTERED, np.arange(C) // 3):  # other parts; other scales of the same parts
        with pytest.raises(BadInput, match=r"grouped alike.*layer:conv2d input"):
            run("conv2d grouped", {"input": other})


@pytest.mark.parametrize("group", [np.arange(C) // 6, np.arange(C) // 3, np.arange(C), np.arange(C) // 2])
def test_groups__meet_the_weights_groups_where_one_refines_the_other(group):
    """Weight groups of 6 channels."""
    contraction = make("linear")
    x, _, _ = whole(contraction.input, group, -1)
    w = contraction.weight.numpy().reshape(7, 2, 6)
    scale = (np.abs(w).max(-1, keepdims=True).astype(float) / 127).astype(F32)
    codes = torch.from_numpy(np.rint(w / scale).astype(float).reshape(7, C))
    parts = []
    for number, part in sorted({(int(a), k // 6) for k, a in enumerate(group)}):
        mask = torch.from_numpy(((group == number) & (np.arange(C) // 6 == part)).astype(float))
        sums = (x * mask) @ codes.T
        parts.append(sums.numpy().astype(F32) * (STEPS[number % 8] * scale[:, part, 0]))
    found = run("linear", {"input": group}, group_size=6)
    assert np.array_equal(found.output.numpy(), in_order(parts) + contraction.bias.numpy())


def test_groups__that_cross_the_weights_groups_are_refused():
    with pytest.raises(BadInput, match=r"refine the other.*layer:linear .* of the weight"):
        run("linear", {"input": np.arange(C) // 4}, group_size=6)
    with pytest.raises(BadInput, match=r"refine the other.*layer:qk .* other operand"):
        run("qk", {"query": np.arange(C) // 4, "key": np.arange(C) // 6})


def heads_of(groups_per_head, heads=3):
    """Groups inside heads, alike in every head, every head with numbers of its own."""
    inside = np.arange(C) * groups_per_head // C
    return np.stack([inside + groups_per_head * head for head in range(heads)])


QK = {
    "one": (None, np.array([0, 1] * 6)),
    "channels": (SCATTERED, SCATTERED),
    "finer": (np.arange(C) // 6, np.arange(C) // 2),
    "heads": (heads_of(1), None),
    "heads of both": (heads_of(1), heads_of(1)[::-1].copy()),
    "inside heads": (heads_of(2), heads_of(4)),
    "every channel": (heads_of(C), np.arange(C)),
}


@pytest.mark.parametrize("case", QK)
def test_groups__of_qk_are_partial_sums_inside_heads_and_free_over_them(case):
    query, key = QK[case]
    contraction = make("qk")
    (x, x_step, lost), (y, y_step, lost_too) = (
        whole(tensor, group, -1, 1) for tensor, group in ((contraction.left, query), (contraction.right, key))
    )
    cuts = [np.zeros(C, int), *(g[0] if g.ndim == 2 else g for g in (query, key) if g is not None)]
    labels = sorted(set(zip(*(cut.tolist() for cut in cuts), strict=True)))
    parts = []
    for label in labels:
        channels = [k for k in range(C) if tuple(cut[k] for cut in cuts) == label]
        sums = (x[..., channels] @ y[..., channels].transpose(-1, -2)).numpy()
        scale = (
            np.broadcast_to(x_step, (1, 3, 1, C))[..., channels[:1]]
            * np.broadcast_to(y_step, (1, 3, 1, C))[..., channels[:1]]
        )
        parts.append(sums.astype(F32) * scale)
    found = run("qk", {role: g for role, g in (("query", query), ("key", key)) if g is not None})
    assert np.array_equal(found.output.numpy().view(np.int32), in_order(parts).view(np.int32))
    assert found.clipped == lost + lost_too


@pytest.mark.parametrize("group", [SCATTERED, heads_of(1), heads_of(3), heads_of(C)])
@pytest.mark.parametrize(
    "accumulator", [Accumulator(), Accumulator(40, Overflow.SATURATE, zero_point=ZeroPoint.OUTSIDE)]
)
def test_groups__of_the_value_are_columns_and_heads_of_the_product(group, accumulator):
    contraction = make("pv")
    p = np.rint(contraction.left.numpy() / F32(1 / 255))
    y, step, _ = whole(contraction.right, group, -2, 1)
    sums = (torch.from_numpy(p.astype(float)) @ y.transpose(-1, -2)).numpy()
    want = sums.astype(F32) * (F32(1 / 255) * np.swapaxes(step, -1, -2))
    found = run("pv", {"value": group}, accumulator=accumulator)
    assert np.array_equal(found.output.numpy().view(np.int32), want.view(np.int32))


def test_groups__of_a_plain_product():
    contraction = make("matmul")
    (x, _, _), (y, _, _) = (whole(t, SCATTERED, -1) for t in (contraction.left, contraction.right))
    parts = []
    for number in range(3):
        mask = torch.from_numpy((number == SCATTERED).astype(float))
        parts.append(((x * mask) @ y.transpose(-1, -2)).numpy().astype(F32) * (STEPS[number] * STEPS[number]))
    found = run("matmul", {"left": SCATTERED, "right": SCATTERED})
    assert np.array_equal(found.output.numpy(), in_order(parts))


def test_groups__add_in_the_schemes_register():
    parts = [run("linear", {"input": SCATTERED}, group_register=GroupRegister(order=order)).output
             for order in (GroupOrder.ASCENDING, GroupOrder.PAIRWISE)]  # fmt: skip
    assert torch.allclose(*parts, atol=1e-4)
    coarse = run("linear", {"input": SCATTERED}, group_register=GroupRegister(BFLOAT16)).output
    assert torch.equal(coarse, coarse.to(torch.bfloat16).float())


def resolve_and_calibrate(facts, groups, settings):
    calibrated_groups(resolved(DEFAULTS | settings, facts, None), facts, ranges_of(facts, groups))


OPERANDS = {
    "linear": {"input": SCATTERED}, "conv2d": {"input": SCATTERED}, "conv_transpose2d": {"input": SCATTERED},
    "qk": {"query": heads_of(2), "key": heads_of(2)}, "pv": {"value": heads_of(3)},
    "matmul": {"right": SCATTERED},
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERANDS)
def test_groups__in_fake_quant_have_the_same_codes(operation):
    exact, fake = (run(operation, OPERANDS[operation], rung) for rung in (Rung.COMPLETE, Rung.FAKE_QUANT))
    assert torch.allclose(exact.output, fake.output, rtol=1e-5, atol=1e-4)
    assert exact.clipped == fake.clipped


@pytest.mark.parametrize("operation", OPERANDS)
def test_groups__of_one_scale_are_the_bits_of_that_scale(operation):
    """Every operand in one group equals an operand without groups, registers with counts included."""
    one = {role: np.zeros(C, int) for role in OPERANDS[operation]}
    for more in ({}, {"accumulator": Accumulator(12, Overflow.SATURATE)}):
        found, plain = (run(operation, groups, **more) for groups in (one, {}))
        assert torch.equal(found.output, plain.output)
        assert (found.clipped, found.overflowed) == (plain.clipped, plain.overflowed)


def test_groups__requantize_the_float_sum_by_division():
    real = run("linear", {"input": SCATTERED}).output.numpy()
    step, zero = F32(0.125), 100
    found = run("linear", {"input": SCATTERED}, output=(-12.5, 19.375), output_bits=8)
    codes = np.rint(real / step) + zero
    assert np.array_equal(found.output.numpy(), (np.clip(codes, 0, 255) - zero).astype(F32) * step)
    assert found.saturated == ((codes < 0) | (codes > 255)).sum() > 0


@pytest.mark.parametrize(
    ("operation", "groups", "settings", "match"),
    [
        ("linear", {"input": np.arange(C)}, {"activation_groups": 8}, r"at most 8 .*12 at layer:linear input"),
        ("linear", {"input": np.arange(C - 1)}, {}, r"12 channels.*11 at layer:linear input"),
        ("conv2d", {"input": np.arange(5)}, {}, r"12 channels.*5 at layer:conv2d input"),
        ("qk", {"query": heads_of(1, heads=2)}, {}, r"3 heads.*2 at layer:qk query"),
        ("pv", {"value": np.arange(6)}, {}, r"12 channels.*6 at layer:pv value"),
        ("matmul", {"right": heads_of(1)}, {}, r"axis of heads.*layer:matmul right"),
        ("linear", {"input": heads_of(1)}, {}, r"axis of heads.*layer:linear input"),
        ("qk", {"query": np.stack([SCATTERED, SCATTERED, np.arange(C) // 4])}, {}, "grouped alike.*layer:qk query"),
        ("linear", {"input": SCATTERED}, {"activation_range": ActivationRange.ROW}, "static.*layer:linear"),
        ("linear", {"input": SCATTERED}, {"block": "mxfp4"}, "static.*layer:linear"),
    ],
)
def test_groups__that_a_site_does_not_have_are_refused(operation, groups, settings, match):
    contraction = make(operation)
    facts = site_of(operation, contraction)
    with pytest.raises(BadInput, match=match):
        resolve_and_calibrate(facts, groups, Settings(activation_groups=0) | Settings(**settings))


def test_groups__are_on_no_target_and_only_where_the_scheme_allows_them():
    facts = site_of("linear", make("linear"))
    with pytest.raises(BadInput, match="onnxruntime at layer:linear"):
        resolved(DEFAULTS | Settings(activation_groups=8), facts, target("onnxruntime"))
    treatment, ranges = resolved(DEFAULTS, facts, None), ranges_of(facts, {"input": SCATTERED})
    with pytest.raises(BadInput, match=r"per tensor.*layer:linear input"):
        calibrated(treatment, facts.key, ranges)
    allowed = resolved(DEFAULTS | Settings(activation_groups=8), facts, None)
    plain = ranges_of(facts, {})
    assert calibrated_groups(allowed, facts, plain) == {}
    assert calibrated(allowed, facts.key, plain)["input"].scale == STEPS[0]
    assert allowed.describe() == "a8 8 groups w8"


def test_ranges__refuse_groups_that_do_not_number_their_bounds():
    key, bounds = (SiteKey("a", "linear"), "input", "all"), (np.zeros(2), np.ones(2))
    for group in (np.array([0, 2]), np.array([0, 0]), np.array([0.0, 1.0]), [0, 1], np.zeros((2, 1, 1), int)):
        with pytest.raises(BadInput, match=r"number every bound.*a:linear input"):
            Ranges({key: bounds}, {}, groups={key: group})
    with pytest.raises(BadInput, match="number every bound"):
        Ranges({}, {}, groups={key: np.array([0, 1])})


class Net(torch.nn.Module):
    """A layer, two heads of attention over the pixels of a convolution, a last layer."""

    def __init__(self):
        super().__init__()
        self.conv, self.qkv, self.out = (
            torch.nn.Conv2d(3, 8, 3, padding=1),
            torch.nn.Linear(8, 24),
            torch.nn.Linear(8, 8),
        )

    def forward(self, x, timestep):
        h = self.conv(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(h).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        h = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(h.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(-1, x.shape[-2:])[:, :3]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return as_model(Net(), (3, 4, 4))


def test_network__with_scales_per_channel_has_less_noise_than_with_one(net):
    """Channels that differ in size a hundredfold and matter alike: calibrated, grouped, run."""
    size = torch.logspace(-1, 1, 8)
    with torch.no_grad():
        net.module.conv.weight *= size.reshape(8, 1, 1, 1)
        net.module.conv.bias *= size
        net.module.qkv.weight /= size
    sampler = simulator_sampler(net)
    fine = simulator.calibrate_ranges(net, sampler, samples=16, granularity=PerHeadChannel())
    keys = [key for key in fine.bounds if fine.bounds[key][0].size > 1]
    shapes = {
        site.operation: tuple(n for n in fine.bounds[site, role, name][0].shape if n > 1) for site, role, name in keys
    }
    assert shapes["qk"] == (2, 4)
    groups = {
        key: even_groups((2, 4), 2) if key[0].operation in ("qk", "pv") else np.arange(fine.bounds[key][0].size)
        for key in keys
        if key[1] != "probability"
    }
    x, t = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1)), torch.full((8,), 500)
    want = net.module(x, t)

    def error(ranges, settings, rung=Rung.COMPLETE):
        network = simulator.QuantizedModel(net, Scheme(settings), ranges, rung=rung)
        return float((network(x, t) - want).square().mean())

    whole_ = error(simulator.calibrate_ranges(net, sampler, samples=16), Settings(activation_bits=6, weight_bits=16))
    own = Settings(activation_bits=6, weight_bits=16, activation_groups=0)
    grouped = error(grouped_ranges(fine, groups), own)
    assert grouped < 0.3 * whole_
    assert error(fine, own) < 0.3 * whole_
    assert error(grouped_ranges(fine, groups), own, Rung.FAKE_QUANT) == pytest.approx(grouped, rel=0.05)
    with pytest.raises(BadInput, match=r"pv value.*PerHeadChannel"):
        error(simulator.calibrate_ranges(net, sampler, samples=16, granularity=PerChannel()), own)


def simulator_sampler(model):
    from samplers import DDIM

    return DDIM(model.schedule, num_inference_steps=2)
