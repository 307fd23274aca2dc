"""Claim: a generator starts at its s0, its table is itself at any sampler's steps, and the engine gets both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from samplers import DDIM, BadInput, NoiseSchedule
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec, dequantize, parameters_from_range, quantize
from simulator.calibration.intervals.encoding import DirectCode, FourierCode
from simulator.calibration.intervals.generator import TDQ, GeneratedIntervals
from simulator.calibration.intervals.learned import along_samples, inverse_softplus, softplus
from simulator.calibration.intervals.observation import OperandSamples
from simulator.calibration.intervals.segments import SegmentIntervals, Segments
from simulator.calibration.intervals.start import SILU_LOW, Start, released
from simulator.calibration.intervals.table import ranges_at, table
from simulator.calibration.ranges import Ranges
from simulator.calibration.rounding_gradient import fake_quantize
from simulator.instrument.sites import SiteKey

SPEC = QuantSpec(IntFormat(8, signed=False))
KEYS = [(SiteKey(f"layer{i}", "linear"), "input") for i in range(6)]
SCALES = [3e-7, 1e-3, 0.0371, 0.5, 7.25, 41.0]
STARTS = {key: Start(scale, 10.0 * i) for i, (key, scale) in enumerate(zip(KEYS, SCALES, strict=True))}
T = torch.arange(1000)


def sampler(steps: int) -> DDIM:
    return DDIM(NoiseSchedule(), steps)


def trained(method: TDQ = TDQ()) -> GeneratedIntervals:  # noqa: B008
    """A generator whose last layer is no longer zero."""
    intervals = GeneratedIntervals(method, STARTS, SPEC)
    draw = torch.Generator().manual_seed(1)
    for parameter in intervals.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
    return intervals.eval()


def test_fourier_code__is_eq_8_with_exponents_to_d_minus_2() -> None:
    code = FourierCode(6, 100.0)(torch.tensor([0, 7]))
    expected = [[f(t / 100 ** (i / 6)) for i in (0, 2, 4) for f in (math.sin, math.cos)] for t in (0, 7)]
    np.testing.assert_allclose(code, expected, rtol=1e-15)
    assert FourierCode()(T).mean() == pytest.approx(0.22, abs=0.005)


def test_direct_code__is_the_timestep() -> None:
    np.testing.assert_array_equal(DirectCode(10.0)(torch.tensor([0, 7])), [[0.0], [0.7]])


def test_softplus__inverts_at_every_magnitude() -> None:
    s = torch.logspace(-30, 3, 200, dtype=torch.float64)
    torch.testing.assert_close(softplus(inverse_softplus(s)), s, rtol=1e-12, atol=0)


@pytest.mark.parametrize("code", [FourierCode(), DirectCode()])
@pytest.mark.parametrize("layers", [2, 4, 8])
def test_exact_variant__starts_at_s0_to_the_last_bit_for_all_t(layers, code) -> None:
    intervals = GeneratedIntervals(TDQ(layers=layers, code=code), STARTS, SPEC)
    expected = torch.tensor(SCALES, dtype=torch.float32)[:, None].expand(-1, 1000)
    assert torch.equal(intervals.scales(T), expected)


def test_paper_variant__misses_s0_by_a_factor() -> None:
    many = {(SiteKey(f"site{i}", "linear"), "input"): Start(0.1, 0.0) for i in range(200)}
    ratio = GeneratedIntervals(TDQ(variant="paper"), many, SPEC).scales(T[::20]).detach().mean(dim=1) / 0.1
    assert 2 < ratio.max() < 60
    assert ratio.min() < 0.7


def test_generators__do_not_depend_on_which_others_are_there() -> None:
    alone = GeneratedIntervals(TDQ(variant="paper"), {KEYS[3]: STARTS[KEYS[3]]}, SPEC)
    among = GeneratedIntervals(TDQ(variant="paper"), STARTS, SPEC)
    torch.testing.assert_close(alone.scales(T)[0], among.scales(T)[3], rtol=1e-6, atol=0)


@pytest.mark.parametrize("steps", [10, 37, 100])
def test_table__is_the_generator_itself_whatever_the_sampler(steps) -> None:
    intervals, chosen = trained(), sampler(steps)
    found = table(intervals, chosen)
    spread = max(scale.max() / scale.min() for scale, _ in found.values())
    assert spread > 1.2
    for key in KEYS:
        one = intervals.operand(*key, chosen)
        for step in range(0, steps, 3):
            assert found[key][0][step] == one.scale(step).item()
            assert found[key][1][step] == round(one.zero_point(step).item())
            assert torch.equal(one.scale(step), intervals.at(torch.tensor([chosen.updates[step].timestep]))[key][0][0])


def test_table__ignores_dropout_and_leaves_the_mode() -> None:
    intervals = trained(TDQ(variant="released")).train()
    first = table(intervals, sampler(10))
    second = table(intervals, sampler(10))
    for key in KEYS:
        np.testing.assert_array_equal(first[key][0], second[key][0])
    assert intervals.training
    assert not torch.equal(intervals.scales(T), intervals.scales(T))


def test_ranges__give_the_engine_the_table_to_the_bit() -> None:
    intervals, chosen = trained(), sampler(20)
    ranges = ranges_at(intervals, chosen, {"weights_digest": "0"})
    found = table(intervals, chosen)
    x = torch.linspace(-9, 9, 4001)
    for key in KEYS:
        for step in (0, 7, 19):
            low, high = ranges.of(*key, step)
            scale, zero = parameters_from_range(low, high, SPEC)
            assert (scale, zero) == (found[key][0][step], found[key][1][step])
            one = intervals.operand(*key, chosen)
            trained_on = fake_quantize(x, one.scale(step), one.zero_point(step), 0, 255)
            codes = quantize(x.numpy(), SPEC, np.full(1, scale), np.full(1, zero))
            np.testing.assert_array_equal(trained_on.detach(), dequantize(codes))


def test_ranges__take_what_else_a_network_needs_from_others() -> None:
    other = (SiteKey("other", "linear"), "output", "all")
    bounds = {other: (np.array(-1.0), np.array(2.0)), (*KEYS[0], "all"): (np.array(-9.0), np.array(9.0))}
    ranges = ranges_at(trained(), sampler(5), {"weights_digest": "0"}, others=Ranges(bounds, {}))
    assert ranges.of(*other[:2], 3) == (-1.0, 2.0)
    assert ranges.of(*KEYS[0], 3)[1] != 9.0


def test_segments__cover_equal_shares_of_the_timesteps() -> None:
    intervals = SegmentIntervals(Segments.uniform(4), STARTS, SPEC)
    intervals.raw.data += torch.arange(4, dtype=torch.float64)
    found = intervals.scales(T)[2]
    assert [len(v) for v in torch.unique_consecutive(found, return_counts=True)] == [4, 4]
    assert torch.unique_consecutive(found, return_counts=True)[1].tolist() == [250] * 4
    assert torch.equal(SegmentIntervals(Segments.uniform(1), STARTS, SPEC).scales(T)[2], torch.full((1000,), 0.0371))


def test_segments__one_per_step_separates_the_samplers_steps_and_serves_others() -> None:
    intervals = SegmentIntervals(Segments.each(sampler(20)), STARTS, SPEC)
    intervals.raw.data += 0.1 * torch.arange(20, dtype=torch.float64)
    scales = table(intervals, sampler(20))[KEYS[1]][0]
    assert len(set(scales.tolist())) == 20
    assert (np.diff(scales) < 0).all()  # steps descend in t, raw ascends
    assert len(table(intervals, sampler(50))[KEYS[1]][0]) == 50


def test_zero_point__is_clamped_with_a_gradient_that_comes_back() -> None:
    intervals = SegmentIntervals(Segments.uniform(1), {KEYS[0]: Start(0.1, 3.0)}, SPEC)
    assert intervals.zero_points(T[:2]).tolist() == [[3.0, 3.0]]
    intervals.offset.data.fill_(-0.2)
    zero = intervals.zero_points(T[:2])
    assert zero.abs().max() < 1e-5
    zero.sum().backward()
    assert intervals.offset.grad.item() == pytest.approx(2 * 255)


def test_operand_intervals__carry_gradients_per_step() -> None:
    intervals = trained()
    one = intervals.operand(*KEYS[2], sampler(10))
    steps = torch.tensor([0, 9, 9])
    assert one.scale(steps).shape == (3,)
    one.scale(steps).sum().backward()
    gradient = intervals.biases[-1].grad[:, 0, 0]
    assert gradient[2] > 0
    assert gradient[[0, 1, 3, 4, 5]].abs().sum() == 0


def test_along_samples__refuses_operands_without_a_row_per_sample() -> None:
    assert along_samples(torch.ones(3), torch.zeros(3, 4, 5)).shape == (3, 1, 1)
    with pytest.raises(BadInput, match="one row for each"):
        along_samples(torch.ones(3), torch.zeros(6, 4))


def test_released_start__is_three_sigma_or_sixteen_after_silu() -> None:
    draw = np.random.default_rng(0)
    plain = (0.5 + draw.normal(size=(4, 4000))).astype(np.float32)
    start = released(plain, np.ones_like(plain), SPEC)
    rows = plain.astype(np.float64)
    bound = rows.mean() + 3 * rows.std(axis=1, ddof=1).mean()
    assert start.scale == pytest.approx(bound / 127)
    assert (start.zero_point, start.learned, start.low) == (128.0, False, None)
    silu = plain / (1 + np.exp(-plain))
    start = released(silu, np.ones_like(silu), SPEC)
    rows = silu.astype(np.float64)
    assert start.scale == pytest.approx((rows.mean() + 16 * rows.std(axis=1, ddof=1).mean()) / 255)
    intervals = GeneratedIntervals(TDQ(variant="released"), {KEYS[0]: start}, SPEC)
    expected = -SILU_LOW / intervals.eval().scales(T[:5])
    torch.testing.assert_close(intervals.zero_points(T[:5]), expected, rtol=1e-6, atol=0)


def test_intervals__refuse_what_they_cannot_serve() -> None:
    with pytest.raises(BadInput, match="asymmetric"):
        GeneratedIntervals(TDQ(), STARTS, QuantSpec(IntFormat(8), symmetric=True))
    with pytest.raises(BadInput, match="among those"):
        trained().operand(SiteKey("none", "linear"), "input", sampler(5))
    with pytest.raises(BadInput, match="which weights"):
        ranges_at(trained(), sampler(5), {})
    with pytest.raises(BadInput, match="at most 10"):
        Segments.uniform(11, 10)
    with pytest.raises(BadInput, match="even"):
        FourierCode(7)
    with pytest.raises(BadInput, match="ascend"):
        OperandSamples(np.array([3.0, 1.0]), {KEYS[0]: np.zeros((2, 4), np.float32)}, {})
