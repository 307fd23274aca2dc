"""Claim: observed operand statistics are the sums that their definitions state, for every form of contraction."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_modules import Ignoring, as_model

from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator.arithmetic.geometry import Geometry
from simulator.attribution import attribute
from simulator.calibration.ranges import Ranges
from simulator.calibration.trajectory import calibrate_ranges
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import Conv, ConvTranspose, Linear, MatMul
from simulator.instrument.machines.fake_quant import FakeQuant
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.rungs import Rung
from simulator.instrument.scheme import Rule, Scheme, Settings
from simulator.instrument.treatment import Treatment
from simulator.operand_errors import observe_operands
from simulator.operand_variables import COVERED, OPERANDS
from simulator.rounded_operands import operands, product

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, SAMPLES = 2, 5


@pytest.fixture(scope="module")
def sampler(tiny_model):
    return DDIM(tiny_model.schedule, STEPS)


@pytest.fixture(scope="module")
def ranges(tiny_model, sampler):
    return calibrate_ranges(tiny_model, sampler, samples=4, outputs=True)


def observe(model, text, ranges, sampler, **options):
    quantized = QuantizedModel(model, text if isinstance(text, Scheme) else Scheme.parse(text), ranges)
    return quantized, observe_operands(quantized, sampler, samples=SAMPLES, seed=3, **options)


def test_variables__are_declared_and_do_not_depend_on_the_batch(tiny_model, ranges, sampler) -> None:
    _, whole = observe(tiny_model, "w4a4", ranges, sampler)
    _, parts = observe(tiny_model, "w4a4", ranges, sampler, batch_size=2)
    for variable in OPERANDS:
        assert whole[variable.name].dims == variable.dims
        assert whole[variable.name].attrs["definition"] == variable.definition
        if "line" in variable.name or "rest" in variable.name or "drawn" in variable.name:
            continue  # lines are fitted per batch
        np.testing.assert_allclose(parts[variable.name], whole[variable.name], rtol=2e-5)
    assert whole.site_roles.values.tolist()[-2:] == ["input weight", "input weight"]
    assert "query key" in whole.site_roles.values


def contractions() -> dict[str, tuple[object, str]]:
    g = torch.Generator().manual_seed(4)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    strided = Geometry(stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2), groups=2)
    transposed = Geometry(stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=2)
    return {
        "linear": (Linear(normal(3, 5, 8), normal(4, 8), normal(4)), "linear"),
        "conv": (Conv(normal(3, 4, 5, 6), normal(6, 2, 3, 2), normal(6), strided), "conv2d"),
        "transposed": (
            ConvTranspose(normal(3, 4, 3, 3), normal(4, 3, 2, 2), None, transposed, (0, 0)),
            "conv_transpose2d",
        ),
        "matmul": (MatMul(normal(3, 2, 5, 8), normal(3, 2, 7, 8), ("query", "key")), "qk"),
    }


def treatment(contraction, text: str) -> Treatment:
    """Of an inner layer under a short string without calibration, its one operand in every role."""
    body = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    plan = QuantizedModel(as_model(Ignoring(body), (1, 2, 2)), Scheme.parse(text), Ranges({}, {})).plan
    found = plan.at(plan.sites[1].key)
    (operand,) = found.operands.values()
    weight = None if isinstance(contraction, MatMul) else found.weight
    return replace(found, operands=dict.fromkeys(contraction.activations(), operand), weight=weight)


@pytest.mark.parametrize(("ranges", "run_time"), [("dyn", 15), ("dynrow", 14)])
@pytest.mark.parametrize("name", contractions())
def test_operands__round_as_fake_quantization_does(name, ranges, run_time) -> None:
    contraction, _ = contractions()[name]
    how = treatment(contraction, f"w3a4-{ranges}")
    left, right = operands(contraction, how, {})
    fake = FakeQuant(how, {})
    weight = None if isinstance(contraction, MatMul) else fake.prepare(contraction, contraction.weight)
    expected = fake(contraction, weight).output
    bias = getattr(contraction, "bias", None)
    found = product(contraction, left.exact + left.error, right.exact + right.error)
    if bias is not None:
        found = found + bias.reshape(-1, *[1] * (2 if name == "conv" else 0))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for operand, intervals in ((left, run_time), (right, 6 if weight is not None else run_time)):
        assert operand.intervals == intervals
        assert (operand.error.abs() <= operand.step / 2 * (1 + 1e-5)).all()
        codes = (operand.exact + operand.error) / operand.step
        torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", contractions())
def test_product__of_squares_is_the_noise_power_of_independent_errors(name) -> None:
    """Errors of random sign leave the sum of squares: the mean over many signs tends to it."""
    contraction, _ = contractions()[name]
    how = treatment(contraction, "w3a4-dyn")
    left, right = operands(contraction, how, {})
    exact = product(contraction, left.exact, right.exact)
    expected = (
        product(contraction, left.error.square(), right.exact.square())
        + product(contraction, left.exact.square(), right.error.square())
        + product(contraction, left.error.square(), right.error.square())
    )
    generator, draws = torch.Generator().manual_seed(9), []
    for _ in range(400):
        signs = [torch.randint(0, 2, t.shape, generator=generator) * 2.0 - 1 for t in (left.error, right.error)]
        moved = product(contraction, left.exact + signs[0] * left.error, right.exact + signs[1] * right.error)
        draws.append(float((moved - exact).square().mean()))
    error = np.std(draws) / len(draws) ** 0.5
    assert abs(np.mean(draws) - float(expected.mean())) < 5 * error


def test_gains__of_a_padded_convolution_leave_out_the_padding(tiny_model, ranges, sampler) -> None:
    quantized, found = observe(tiny_model, "w8a8", ranges, sampler)
    site = next(facts.key for facts in quantized.sites if facts.key.module == "down")
    scale = calibrated(quantized.plan.at(site), site, ranges)["input"].scale
    weight = tiny_model.module.down.weight.square()
    inside = F.unfold(torch.ones(1, 12, 8, 8), 3, padding=1, stride=2)[0]  # (taps, outputs)
    gain = float((weight.flatten(1) @ inside).mean()) * float(scale) ** 2
    left = found.sel(site=str(site), operand="left")
    np.testing.assert_allclose(left.operand_step_gain, gain, rtol=1e-5)
    without = float(weight.sum((1, 2, 3)).mean()) * float(scale) ** 2
    assert without > 1.1 * gain
    steps = tiny_model.module.down.weight.abs().amax((1, 2, 3)) / 127
    both = float((steps.square()[:, None] * inside.sum(0)).mean()) * float(scale) ** 2
    np.testing.assert_allclose(found.sel(site=str(site)).site_step_product, both, rtol=1e-5)


def test_drawn_noise__is_the_measured_noise_where_activations_are_exact(tiny_model, ranges, sampler) -> None:
    """With 16-bit activations only the weights err, and their errors are taken as they are."""
    wide = Ranges(
        {key: (np.asarray(2 * low), np.asarray(2 * high)) for key, (low, high) in ranges.bounds.items()}, ranges.source
    )
    quantized, found = observe(tiny_model, "w3a16", wide, sampler)
    assert float(found.operand_clipped_share.sum()) == 0
    measured = attribute(
        quantized, sampler, rungs=(Rung.COMPLETE,), samples=SAMPLES, seed=3, purpose=found_purpose(found)
    ).site_local
    power = (measured.sel(moment="ee") + measured.sel(moment="mean_e") ** 2).mean("block")  # one sample in each block
    inner = ["qkv:linear", "down:conv2d", "proj:linear"]
    np.testing.assert_allclose(found.site_drawn_noise.sel(site=inner), power.sel(site=inner), rtol=2e-3)
    assert (abs(found.site_line_power + found.operand_rest_gain.sum("operand") - power) > 0.02 * power).any()


def found_purpose(found) -> str:
    return json.loads(found.attrs["config"])["purpose"]


def test_covered__says_why_a_site_is_left_out(tiny_model, ranges, sampler) -> None:
    keep = Scheme.parse("w4a8")
    keep = replace(keep, rules=(*keep.rules, Rule(("qkv*",), Settings(keep_float=True))), name="kept")
    _, found = observe(tiny_model, keep, ranges, sampler)
    codes = {
        str(site): COVERED[int(code)]
        for site, code in zip(found.site.values, found.site_covered.values[0], strict=True)
    }
    assert codes.pop("qkv:linear") == "in_float"
    assert set(codes.values()) == {"covered"}
    assert np.isnan(found.operand_step_gain.sel(site="qkv:linear")).all()
    assert (found.site_signal_power.sel(site="qkv:linear") > 0).all()
    for text in ("w4a8o8", "w4a8-acc16", "w4a8-bf16", "w4a8-floor", "mxfp4"):
        _, found = observe(tiny_model, text, ranges, sampler)
        inner = found.site_covered.sel(site="down:conv2d")
        assert (inner == COVERED.index("other_arithmetic")).all(), text


def test_clipped_share__is_1_where_a_range_lies_beside_its_operand(tiny_model, ranges, sampler) -> None:
    site = next(site for site, role, _ in ranges.bounds if site.module == "embed.0")
    moved = {key: (np.array(-2e-3), np.array(-1e-3)) if key[0] == site else v for key, v in ranges.bounds.items()}
    _, found = observe(tiny_model, "w8a8", Ranges(moved, ranges.source), sampler)
    share = found.operand_clipped_share.sel(site=str(site), operand="left")
    assert share.values.tolist() == [1, 0.5]  # at timestep 0 the sines are 0


def test_observe_operands__refuses_sizes_below_1(tiny_model, ranges, sampler) -> None:
    quantized = QuantizedModel(tiny_model, Scheme.parse("w8a8"), ranges)
    for name in ("samples", "batch_size"):
        with pytest.raises(BadInput, match=name):
            observe_operands(quantized, sampler, **{name: 0})
