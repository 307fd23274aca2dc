"""Claim: after RepQ's re-scaling one scale and zero point serve all channels of a norm; the float function stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from same_function import TOLERANCE, error, perturbed, small_dit, small_unet
from torch import nn

from samplers import DDIM, BadInput
from simulator import PerChannel, QuantizedModel, Ranges, Scheme, calibrate_ranges, load, survey
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec, parameters_from_range, quantize
from simulator.calibration.balancing.families import graph_of
from simulator.calibration.balancing.folding import fold
from simulator.calibration.balancing.graph import AdaptiveNorm, Graph, Input, Outputs
from simulator.calibration.balancing.layer_scales import rescale_norms
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.instrument.sites import SiteKey
from simulator.models.derived import derive

pytestmark = pytest.mark.usefixtures("one_thread")
SPEC = QuantSpec(IntFormat(8, signed=False))


def per_channel(model, samples: int = 4) -> Ranges:
    return calibrate_ranges(model, DDIM(model.schedule, 3, 0.0), samples=samples, granularity=PerChannel())


@pytest.fixture(scope="module")
def dit():
    model = small_dit()
    return model, rescale_norms(model, per_channel(model))


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("name", ["digits-dit", "digits-unet"])
def test_rescale__leaves_the_float_function_of_shipped_models(name, move) -> None:
    model = perturbed(load(name)) if move else load(name)
    found = rescale_norms(model, per_channel(model, 2))
    assert error(model, found.model) < TOLERANCE
    assert max(np.abs(scale.offset).max() for scale in found.scales.values()) > 0.01


def test_rescale__gives_every_channel_the_common_scale_and_zero_point(dit) -> None:
    model, found = dit
    assert error(model, found.model) < TOLERANCE
    before, after = per_channel(model), per_channel(found.model)
    assert len(found.scales) == 4
    for name, common in found.scales.items():
        assert len(found.sites[name]) == (3 if "attention" in name else 1)
        for site in found.sites[name]:
            scale, zero = parameters_from_range(*after.of(site, "input"), SPEC)
            np.testing.assert_allclose(scale, common.scale, rtol=2e-5)
            np.testing.assert_array_equal(zero, common.zero_point)
            old, _ = parameters_from_range(*before.of(site, "input"), SPEC)
            assert old.max() > 1.3 * old.min()
            np.testing.assert_allclose(old.mean(), common.scale, rtol=1e-6)


def test_rescale__gives_the_codes_that_scales_per_channel_give(dit) -> None:
    """The published equivalence: X / r - d under s~ and z~ has the very codes that X has under s_j and z_j."""
    model, found = dit
    name = "blocks.1.mlp.linear1"
    common, site = found.scales[name], found.sites[name][0]
    low, high = (bound.ravel() for bound in per_channel(model).of(site, "input"))
    scale, zero = parameters_from_range(low, high, SPEC)
    x = np.random.default_rng(0).uniform(low, high, (500, len(low)))
    moved = x / common.ratio - common.offset
    found = quantize(moved.astype(np.float32), SPEC, np.full((1, 1), common.scale), np.full((1, 1), common.zero_point))
    own = np.clip(np.rint(x / scale) + zero, 0, 255)
    assert (found.codes == own).mean() > 0.999  # a tie may fall otherwise in float32
    np.testing.assert_allclose(common.ratio, scale / common.scale, rtol=1e-6)
    np.testing.assert_allclose(common.offset, common.scale * (common.zero_point - zero), rtol=1e-6)


def test_rescale__lays_its_bounds_over_ranges_for_the_engine(dit) -> None:
    model, found = dit
    ranges = found.over(calibrate_ranges(found.model, DDIM(model.schedule, 3, 0.0), samples=4))
    quantized = QuantizedModel(found.model, Scheme.parse("w8a8"), ranges)
    for name, sites in found.sites.items():
        for site in sites:
            given = quantized.formats(site)["input"]
            assert given.scale == found.scales[name].scale
            assert given.zero_point == found.scales[name].zero_point
    assert ranges.source["layer_scales"]["bits"] == 8


def test_rescale__serves_wide_and_shifted_channels_better_than_one_range() -> None:
    """On the shipped DiT, whose ranges per channel differ by 18, the rescaled inputs lose less at 4 bits."""
    model = load("digits-dit")
    ranges = per_channel(model, 4)
    found = rescale_norms(model, ranges, bits=4)
    spec = QuantSpec(IntFormat(4, signed=False))
    for site in found.sites["blocks.0.attention.query"][:1]:
        low, high = (bound.ravel() for bound in ranges.of(site, "input"))
        own, _ = parameters_from_range(low, high, spec)
        shared, _ = parameters_from_range(low.min(), high.max(), spec)
        assert (own**2).mean() < 0.5 * shared**2  # noise of one range per channel against one for all
        assert own.max() > 10 * own.min()


def test_rescale__adds_no_operation(dit) -> None:
    model, found = dit
    costs = [account(Plan(Scheme.parse("w8a8"), survey(m)), m.module) for m in (model, found.model)]
    assert costs[0].passes == costs[1].passes
    assert costs[0].weights == costs[1].weights


def test_rescale__leaves_dead_channels_alone() -> None:
    model = small_dit()
    with torch.no_grad():
        modulation = model.module.blocks[0].modulation
        modulation.weight[[3, 24 + 3]] = 0.0
        modulation.bias[3], modulation.bias[24 + 3] = 0.0, -1.0
    ranges = per_channel(model)
    found = rescale_norms(model, ranges)
    scale = found.scales["blocks.0.attention.query"]
    assert (scale.ratio[3], scale.offset[3]) == (1.0, 0.0)
    own, _ = parameters_from_range(*ranges.of(SiteKey("blocks.0.attention.query", "linear"), "input"), SPEC)
    assert own.ravel()[3] == 1  # what stands for a scale of nothing, and must not enter the mean
    assert scale.scale == pytest.approx(np.delete(own.ravel(), 3).mean(), rel=1e-6)
    assert error(model, found.model) < TOLERANCE


def test_rescale__makes_a_bias_where_a_reader_has_none() -> None:
    model = small_dit()
    model.module.blocks[0].attention.query.bias = None
    found = rescale_norms(model, per_channel(model))
    assert error(model, found.model) < TOLERANCE
    assert found.model.module.blocks[0].attention.query.bias is not None


class Sum(nn.Module):
    """A linear layer that reads the sum of two."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.reads = nn.Linear(4, 6), nn.Linear(4, 6, bias=False), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.reads(self.one(x) + self.two(x))


def test_fold__passes_offsets_through_attention_and_sums() -> None:
    """Probabilities sum to 1, so a value's offset arrives whole; of a sum one layer alone takes it."""
    random = np.random.default_rng(0)
    model = small_dit()

    def change(module) -> None:
        output = next(i for i in graph_of(model).inputs if i.name == "blocks.1.attention.output")
        fold(module, output, random.uniform(0.2, 5, 24), random.normal(size=24))

    assert error(model, derive(model, change, "shifted")) < TOLERANCE
    module, x = Sum(), torch.randn(5, 4)
    before = module(x)
    fold(module, Input(("reads",), Outputs(("one", "two"))), random.uniform(0.2, 5, 6), random.normal(size=6))
    torch.testing.assert_close(module(x), before)


def test_rescale__says_what_it_needs(dit, tiny_model) -> None:
    model, found = dit
    with pytest.raises(BadInput, match="ranges must be those of the model"):
        rescale_norms(found.model, per_channel(model))
    per_tensor = calibrate_ranges(model, DDIM(model.schedule, 3, 0.0), samples=2)
    with pytest.raises(BadInput, match="ranges per channel"):
        rescale_norms(model, per_tensor)
    without = Graph(tuple(i for i in graph_of(model).inputs if isinstance(i.source, Outputs)))
    with pytest.raises(BadInput, match="layers that read a norm"):
        rescale_norms(model, per_channel(model), graph=without)
    with pytest.raises(BadInput, match="what precedes each layer"):
        rescale_norms(tiny_model, per_channel(tiny_model))
    assert all(isinstance(i.source, AdaptiveNorm | Outputs) for i in graph_of(model).inputs)
    assert (
        SiteKey("mid.attention.query", "linear")
        in rescale_norms(u := small_unet(), per_channel(u)).sites["mid.attention.query"]
    )
