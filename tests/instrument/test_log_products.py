"""Claim: P V with log-sqrt2 codes of P is two exact sums of shifted V codes with one factor each, wherever a scheme
asks for it, and sites that cannot have it say so."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch_modules import as_model

import simulator
from samplers import DDIM
from samplers.errors import BadInput
from simulator.arithmetic.accumulator import Accumulator, Overflow
from simulator.arithmetic.float_formats import BFLOAT16
from simulator.arithmetic.group_sums import GroupRegister
from simulator.arithmetic.log_sqrt2 import LogSqrt2
from simulator.arithmetic.rounding import Rounding
from simulator.calibration.ranges import Ranges
from simulator.instrument.accounting import account
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import MatMul
from simulator.instrument.machines.log_products import LogProducts
from simulator.instrument.operand_groups import calibrated_groups
from simulator.instrument.plan import Plan
from simulator.instrument.resolution import resolved
from simulator.instrument.rungs import Rung, machine
from simulator.instrument.scheme import DEFAULTS, ActivationRange, ProbabilityFormat, Rule, Scheme, Settings
from simulator.instrument.scheme.toml import parse_scheme
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts, survey
from simulator.targets.named import target

F32 = np.float32
SITE = SiteKey("attn", "pv")
PAPER, RELEASED = ProbabilityFormat.LOG_SQRT2, ProbabilityFormat.LOG_SQRT2_ZERO
DELTA, STEP, ZERO = F32(0.9), F32(2.0**-4), 117


def contraction_of(keys=19):
    """Softmax outputs over six decades, zeros among them, and V on multiples of half its step."""
    random = torch.Generator().manual_seed(4)
    p = (4 * torch.randn(2, 3, 4, keys, generator=random)).softmax(-1)
    p[0, 0, 0, :5] = 0
    v = torch.randint(-300, 300, (2, 3, 5, keys), generator=random).float() / 32
    return MatMul(p, v, ("probability", "value"))


def facts_of(contraction):
    shapes = tuple((1, *t.shape[1:]) for t in (*contraction.operands(), contraction.float()))
    return SiteFacts(SITE, contraction.roles, None, 1, edge=False, operands=1, batched=True, shapes=shapes)


RANGES = Ranges(
    {
        (SITE, "probability", "all"): (np.array(0.0), np.array(0.9)),
        (SITE, "value", "all"): (np.array(-ZERO / 16), np.array((255 - ZERO) / 16)),
        (SITE, "output", "all"): (np.array(-4.0), np.array(3.96875)),
    },
    {},
)


def run(rung=Rung.COMPLETE, ranges=RANGES, **settings):
    contraction = contraction_of()
    facts = facts_of(contraction)
    treatment = resolved(DEFAULTS | Settings(probability_format=PAPER) | Settings(**settings), facts, None)
    parameters, groups = calibrated(treatment, SITE, ranges), calibrated_groups(treatment, facts, ranges)
    runs = machine(treatment, "pv", parameters, rung, groups)
    assert isinstance(runs, LogProducts) is (rung is not Rung.FAKE_QUANT)
    return runs(contraction, None)


def rounded(exact):
    near = F32(float(exact))
    around = [np.nextafter(near, F32(-np.inf)), near, np.nextafter(near, F32(np.inf))]
    return min(around, key=lambda each: (abs(Fraction(float(each)) - exact), int(each.view(np.int32)) & 1))


def by_integers(how, scale, zero, low=0, high=255):
    """Every output from scalar codes and unbounded integers, and how many elements were clipped."""
    contraction, lost = contraction_of(), 0
    p, v = contraction.left.numpy(), contraction.right.numpy()
    out = np.zeros(contraction.shape, F32)
    shift = how.largest_shift
    codes = np.zeros(p.shape, int)
    for index, x in np.ndenumerate(p):
        codes[index], clipped = how.code(x)
        lost += clipped
    whole = np.zeros(v.shape, int)
    for index, x in np.ndenumerate(v):
        s, z = scale[index[1]][index[2]], zero[index[1]][index[2]]
        code = round(float(F32(x / s))) + z
        whole[index] = min(max(code, low), high) - z
        lost += not low <= code <= high
    for b, h, m, n in np.ndindex(out.shape):
        sums = [0, 0]
        for q, each in zip(codes[b, h, m].tolist(), whole[b, h, n].tolist(), strict=True):
            if q < 2**how.bits:
                sums[q % 2] += each << (shift - (q + 1) // 2)
        even, odd = (rounded(Fraction(total, 2**shift)) for total in sums)
        s = scale[h][n]
        out[b, h, m, n] = F32(F32(even * F32(how.delta * s)) + F32(odd * F32(how.odd_delta * s)))
    return out, lost


ONE = ([[STEP] * 5] * 3, [[ZERO] * 5] * 3)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("form", [PAPER, RELEASED])
def test_log_products__are_shifted_integers(bits, form):
    how = LogSqrt2(bits, DELTA, form is RELEASED)
    want, lost = by_integers(how, *ONE)
    found = run(probability_bits=bits, probability_format=form)
    assert np.array_equal(found.output.numpy().view(np.int32), want.view(np.int32))
    assert (found.clipped, found.overflowed, found.saturated) == (lost, 0, 0)
    assert lost > 0


def test_log_products__take_a_value_with_scales_of_heads_and_columns():
    group = np.arange(15).reshape(3, 5) % 4
    steps, zeros = [F32(2.0**-4), F32(0.07), F32(0.11), F32(2.0**-3)], [117, 0, 255, 90]
    bounds = tuple(
        np.array([float(s) * ((255 if high else 0) - z) for s, z in zip(steps, zeros, strict=True)]) for high in (0, 1)
    )
    ranges = Ranges({**RANGES.bounds, (SITE, "value", "all"): bounds}, {}, groups={(SITE, "value", "all"): group})
    want, lost = by_integers(LogSqrt2(4, DELTA), np.array(steps)[group], np.array(zeros)[group].tolist())
    found = run(probability_bits=4, activation_groups=0, ranges=ranges)
    assert np.array_equal(found.output.numpy().view(np.int32), want.view(np.int32))
    assert found.clipped == lost


@pytest.mark.parametrize("range_", list(ActivationRange))
@pytest.mark.parametrize("form", [PAPER, RELEASED])
def test_fake_quant__has_the_same_codes(range_, form):
    exact, fake = (
        run(rung, activation_range=range_, probability_bits=4, probability_format=form)
        for rung in (Rung.COMPLETE, Rung.FAKE_QUANT)
    )
    assert torch.allclose(exact.output, fake.output, rtol=1e-5, atol=1e-5)
    assert exact.clipped == fake.clipped > 0
    assert torch.equal(
        exact.output, run(Rung.INTEGERS, activation_range=range_, probability_format=form, probability_bits=4).output
    )


def test_log_products__requantize_by_division_and_round_to_the_group_register():
    real = run(probability_bits=4).output.numpy()
    codes = np.clip(np.rint(real / F32(2.0**-5)) + 128, 0, 255)
    found = run(probability_bits=4, output_bits=8)
    assert np.array_equal(found.output.numpy(), (codes - 128).astype(F32) / 32)
    coarse = run(probability_bits=4, group_register=GroupRegister(BFLOAT16)).output
    assert torch.equal(coarse, coarse.to(torch.bfloat16).float())


def test_calibrated__delta_is_the_largest_upper_bound():
    treatment = resolved(DEFAULTS | Settings(probability_format=PAPER), facts_of(contraction_of()), None)
    assert treatment.calibrated
    assert treatment.describe() == "a8 log-sqrt2 a8"
    for high, want in ((np.array(0.3), F32(0.3)), (np.array([0.25, 0.5]), F32(0.5)), (np.array(0.0), F32(1))):
        ranges = Ranges({**RANGES.bounds, (SITE, "probability", "all"): (np.zeros(high.shape), high)}, {})
        assert calibrated(treatment, SITE, ranges)["probability"].scale == want
    uniform = resolved(DEFAULTS, facts_of(contraction_of()), None)
    assert calibrated(uniform, SITE, RANGES)["probability"].scale == F32(1 / 255)


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"probability_bits": 9}, "9 bits at attn:pv"), ({"activation_bits": 16}, "16 bits"),
     ({"accumulator": Accumulator(20, Overflow.SATURATE)}, "limited"), ({"rounding": Rounding.FLOOR}, "FLOOR"),
     ({"block": "mxint8"}, "mxint8")],
)  # fmt: skip
def test_log_sqrt2__is_refused_where_it_has_no_arithmetic(settings, match):
    facts = facts_of(contraction_of())
    with pytest.raises(BadInput, match=match):
        resolved(DEFAULTS | Settings(probability_format=PAPER) | Settings(**settings), facts, None)
    assert resolved(DEFAULTS | Settings(probability_format=PAPER, keep_float=True, **settings), facts, None).in_float


def test_log_sqrt2__is_on_no_target():
    with pytest.raises(BadInput, match="onnxruntime at attn:pv"):
        resolved(DEFAULTS | Settings(probability_format=RELEASED), facts_of(contraction_of()), target("onnxruntime"))
    with pytest.raises(BadInput, match="probability_format"):
        Settings(probability_format="log-sqrt2")


def test_scheme__of_a_log_format_is_text_and_back():
    table = {"base": "w8a8", "site": [{"sites": ["@pv"], "probability_format": "log-sqrt2", "probability_bits": 4}]}
    scheme = parse_scheme(table)
    assert scheme.rules[-1] == Rule(("@pv",), Settings(probability_bits=4, probability_format=PAPER))
    assert scheme.config()["rules"][-1]["probability_format"] == "log-sqrt2"
    released = parse_scheme({"all": {"probability_format": "log-sqrt2-zero", "activation_groups": 8}})
    assert released.settings == Settings(probability_format=RELEASED, activation_groups=8)


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = torch.nn.Linear(8, 24)

    def forward(self, x, timestep):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return torch.nn.functional.scaled_dot_product_attention(3 * q, k, v).transpose(1, 2).flatten(2)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return as_model(Attention(), (6, 8))


def test_network__in_log_codes_is_near_float_and_costs_as_many_bit_operations(net):
    ranges = simulator.calibrate_ranges(net, DDIM(net.schedule, num_inference_steps=2), samples=8)
    x, t = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1)), torch.full((4,), 500)
    want = net.module(x, t)
    fine = Settings(weight_bits=16, activation_bits=8)
    errors = {}
    for form in (ProbabilityFormat.UNIFORM, PAPER, RELEASED):
        scheme = Scheme(fine, (Rule(("@pv",), Settings(probability_bits=4, probability_format=form)),))
        network = simulator.QuantizedModel(net, scheme, ranges)
        errors[form] = float((network(x, t) - want).square().mean() / want.square().mean())
    assert errors[ProbabilityFormat.UNIFORM] < 0.02
    assert 0 < errors[PAPER] < 0.1
    log = Scheme(fine, (Rule(("@pv",), Settings(probability_bits=4, probability_format=PAPER)),))
    (cost,) = (c for c in account(Plan(log, survey(net)), net.module).passes[0] if c.site.operation == "pv")
    assert cost.bits == (4, 8)
    assert cost.bops == cost.macs * 4 * 8
    assert cost.how == "a4 log-sqrt2 a8"
