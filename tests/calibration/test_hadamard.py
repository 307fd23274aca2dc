"""Claim: rotated layers compute the same function of rotated inputs whose outliers are spread, and multiply no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from same_function import TOLERANCE, error, perturbed, small_dit, small_unet
from scipy.linalg import block_diag
from scipy.linalg import hadamard as hadamard_matrix
from torch import nn

from samplers import DDIM, BadInput, NoiseSchedule
from simulator import PerChannel, QuantizedModel, Scheme, calibrate_ranges, load, survey
from simulator.calibration.transforms.hadamard import Rotation, block_size, hadamard, rotate
from simulator.instrument.accounting import account
from simulator.instrument.plan import Plan
from simulator.models.registry import Model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("length", "size"), [(1, 1), (2, 2), (16, 16), (12, 4), (96, 32), (7, 1), (40, 8), (24, 2)])
def test_hadamard__is_the_block_diagonal_matrix(length, size) -> None:
    matrix = block_diag(*[hadamard_matrix(size) / np.sqrt(size)] * (length // size))
    x = torch.randn(3, 2, length, dtype=torch.float64)
    np.testing.assert_allclose(hadamard(x, size), x.numpy() @ matrix.T, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(length), atol=1e-14)


def test_block_size__is_the_largest_power_of_two_that_divides() -> None:
    assert [block_size(n) for n in (1, 2, 3, 12, 96, 256, 100, 17)] == [1, 2, 1, 4, 32, 256, 4, 1]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("name", ["digits-dit", "digits-unet"])
def test_rotate__leaves_the_float_function_of_shipped_models(name, move, seed) -> None:
    model = perturbed(load(name)) if move else load(name)
    found = rotate(model, Rotation(seed=seed))
    assert error(model, found.model) < TOLERANCE
    moved = [path for path, size in found.blocks.items() if size > 1]
    for path in moved:
        old, new = (m.module.get_submodule(path).weight for m in (model, found.model))
        assert not torch.allclose(old, new, atol=1e-3)
        torch.testing.assert_close(old.norm(), new.norm())


def test_rotate__adds_no_site_and_no_product() -> None:
    model = small_dit()
    found = rotate(model)
    plain, rotated = (account(Plan(Scheme.parse("w4a8"), survey(m)), m.module) for m in (model, found.model))
    assert plain.passes == rotated.passes
    assert plain.weights == rotated.weights
    assert found.blocks["blocks.0.mlp.linear1"] == 8
    assert found.additions["blocks.0.mlp.linear1"] == 24 * 3
    assert found.blocks["blocks.0.mlp.linear2"] == 4  # 36 inputs


class Planted(nn.Module):
    """Rows with a large channel into one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64, bias=False)
        self.register_buffer("gain", torch.ones(64))
        self.gain[5] = 80.0

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.layer(x * self.gain)


def planted() -> Model:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Planted().eval().requires_grad_(False)
        module.layer.weight[:, 5] /= 80.0
    return Model("planted", 1, module, NoiseSchedule(), (4, 64), "epsilon", "")


def test_rotate__spreads_an_outlier_over_its_block() -> None:
    model = planted()
    found = rotate(model, Rotation(seed=1)).model
    sampler, spreads, noises = DDIM(model.schedule, 2, 0.0), [], []
    x, t = torch.randn(16, 4, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(16, dtype=torch.long)
    for network in (model, found):
        low, high = next(iter(calibrate_ranges(network, sampler, samples=8, granularity=PerChannel()).bounds.values()))
        spreads.append(float((high - low).max() / np.median(high - low)))
        quantized = QuantizedModel(network, Scheme.parse("w8a4"), calibrate_ranges(network, sampler, samples=8))
        noises.append(float((quantized(x, t) - model.module(x, t)).square().mean()))
    assert spreads[0] > 40
    assert spreads[1] < 3
    assert noises[1] < noises[0] / 4


def test_rotate__with_signs_keeps_a_constant_from_becoming_a_spike() -> None:
    x = torch.ones(64)
    assert float(hadamard(x, 64).abs().max()) == pytest.approx(8.0)
    rotated = rotate(planted(), Rotation(seed=3)).model.module.layer.before[0]
    assert float(rotated(x).abs().max()) < 4.0
    again = rotate(planted(), Rotation(seed=3)).model
    assert again.weights_digest == rotate(planted(), Rotation(seed=3)).model.weights_digest
    assert again.weights_digest != rotate(planted(), Rotation(seed=4)).model.weights_digest


def test_rotate__names_what_it_cannot_do() -> None:
    model = small_unet()
    with pytest.raises(BadInput, match="must name a linear layer"):
        rotate(model, Rotation(("conv_in",)))
    odd = nn.Sequential(nn.Linear(7, 7))
    lonely = Model("odd", 1, odd, NoiseSchedule(), (7,), "epsilon", "")
    with pytest.raises(BadInput, match="an even number of inputs"):
        rotate(lonely)
    encoder = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    with pytest.raises(BadInput, match="must be called by its network"):
        rotate(Model("encoder", 1, encoder, NoiseSchedule(), (4, 8), "epsilon", ""), Rotation(("linear1",)))
    for bad in (lambda: Rotation(()), lambda: Rotation("*"), lambda: Rotation(seed=-1)):
        with pytest.raises(BadInput):
            bad()
    some = rotate(model, Rotation(("mid.*",)))
    assert set(some.blocks) == {f"mid.attention.{name}" for name in ("query", "key", "value", "output")}
