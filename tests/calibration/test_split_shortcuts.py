"""Claim: a split shortcut computes the same sum, with a site, a range and weight scales of its own for each half."""

from __future__ import annotations

import pytest
import torch
from same_function import TOLERANCE, error, perturbed, small_dit, small_unet
from torch import nn

from samplers import DDIM, BadInput
from simulator import QuantizedModel, Scheme, calibrate_ranges, load, survey
from simulator.calibration.transforms.concatenations import Concatenation, concatenations_of
from simulator.calibration.transforms.shortcuts import Readers, SplitLayer, split_shortcuts
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.instrument.sites import SiteKey

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("readers", list(Readers))
@pytest.mark.parametrize("move", [False, True])
def test_split__leaves_the_float_function(move, readers) -> None:
    model = perturbed(load("digits-unet")) if move else load("digits-unet")
    found = split_shortcuts(model, readers)
    assert error(model, found.model) < TOLERANCE
    shortcuts = {"up.0.shortcut", "up.1.shortcut"}
    assert set(found.layers) == (shortcuts if readers is Readers.DIRECT else shortcuts | {"up.0.conv1", "up.1.conv1"})


def test_split__first_half_is_the_trunk_and_second_the_skip() -> None:
    """What each half reads is what the network concatenates: planted apart in scale, they keep ranges of their own."""
    model = small_unet()
    with torch.no_grad():  # the trunk comes from the upsampling, the skip from the first block
        model.module.upsample.weight *= 100.0
        model.module.upsample.bias *= 100.0
    found = split_shortcuts(model).model
    ranges = calibrate_ranges(found, DDIM(model.schedule, 2, 0.0), samples=2)
    spans = {}
    for half in ("trunk", "skip"):
        low, high = ranges.of(SiteKey(f"up.0.shortcut.{half}", "conv2d"), "input")
        spans[half] = float(high - low)
    whole = calibrate_ranges(model, DDIM(model.schedule, 2, 0.0), samples=2)
    low, high = whole.of(SiteKey("up.0.shortcut", "conv2d"), "input")
    assert spans["trunk"] > 10 * spans["skip"]
    assert spans["trunk"] == pytest.approx(float(high - low), rel=1e-4)

    def noise(network, given) -> float:
        x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.full((2,), 400)
        exact = []
        handle = model.module.up[0].shortcut.register_forward_hook(lambda m, a, y: exact.append(y))
        model.module(x, t)
        handle.remove()
        got = []
        handle = network.module.up[0].shortcut.register_forward_hook(lambda m, a, y: got.append(y))
        QuantizedModel(network, Scheme.parse("w16a4"), given)(x, t)
        handle.remove()
        return float((got[0] - exact[0]).square().mean())

    assert noise(found, ranges) <= 1.05 * noise(model, whole)


def test_split__gives_each_half_weight_scales_of_its_own() -> None:
    layer = nn.Conv2d(6, 4, 1)
    with torch.no_grad():
        layer.weight[:, 4:] *= 100.0
    halves = SplitLayer(layer, 4)
    assert halves.trunk.weight.shape == (4, 4, 1, 1)
    assert halves.skip.weight.abs().max() > 20 * halves.trunk.weight.abs().max()
    assert halves.skip.bias is None
    x = torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(halves(x), layer(x))
    linear = nn.Linear(6, 3)
    y = torch.randn(2, 5, 6)
    torch.testing.assert_close(SplitLayer(linear, 1)(y), linear(y))


def test_split__sums_as_many_products_at_two_sites() -> None:
    model = load("digits-unet")
    found = split_shortcuts(model, Readers.ALL)
    plain, split = (account(Plan(Scheme.parse("w4a8"), survey(m)), m.module) for m in (model, found.model))
    assert split.macs == plain.macs
    assert split.bops == plain.bops
    assert len(split.passes[0]) == len(plain.passes[0]) + len(found.layers)
    # codes are as many; each output channel has one more scale of 4 bytes for each split layer
    more = sum(4 * len(model.module.get_submodule(path).weight) for path in found.layers)
    sites = {cost.site.module: cost.weight_bytes for cost in split.passes[0]}
    old = {cost.site.module: cost.weight_bytes for cost in plain.passes[0]}
    assert sum(sites[f"{p}.{h}"] for p in found.layers for h in ("trunk", "skip")) == more + sum(
        old[path] for path in found.layers
    )


def test_split__needs_a_skip_concatenation(tiny_model) -> None:
    for model in (small_dit(), tiny_model):
        with pytest.raises(BadInput, match="concatenates skip connections"):
            split_shortcuts(model)
    with pytest.raises(BadInput, match="needs a layer that reads"):
        split_shortcuts(small_unet(), concatenations=())
    unet = small_unet()
    for place, message in (
        (Concatenation(32, ("up.0.shortcut",)), "1 to 31 channels"),
        (Concatenation(0, ("up.0.shortcut",)), "1 to 31 channels"),
        (Concatenation(8, ("up.0.norm1",)), "linear or a plain convolution"),
        (Concatenation(8, ("up.7",)), "one of the network's"),
    ):
        with pytest.raises(BadInput, match=message):
            split_shortcuts(unet, concatenations=(place,))
    with pytest.raises(BadInput, match="split first"):
        split_shortcuts(split_shortcuts(unet).model, concatenations=concatenations_of(unet))


def test_concatenations__halves_are_those_of_the_network() -> None:
    model = load("digits-unet")
    assert {c.direct: c.first for c in concatenations_of(model)} == {("up.1.shortcut",): 64, ("up.0.shortcut",): 32}
