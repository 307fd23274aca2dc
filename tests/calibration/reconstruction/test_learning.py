"""Claim: learned roundings beat the nearest where inputs are correlated, come near the best of all, and never lose."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from samplers.schedule import NoiseSchedule
from simulator.calibration.batches import calibrate_on
from simulator.calibration.reconstruction.learning import Rise
from simulator.calibration.reconstruction.problem import keeping
from simulator.calibration.reconstruction.run import reconstruct
from simulator.calibration.reconstruction.settings import RISE_ITERATIONS, LearnRoundings, LearnScales, Reconstruction
from simulator.instrument.scheme.scheme import Scheme
from simulator.instrument.scheme.settings import Settings
from simulator.models.registry import Model

QUICK = LearnRoundings(iterations=200, learning_rate=2e-2, regularizer=10.0, error_unit="nearest")
LAYER = Reconstruction("layerwise", "layer", "float", roundings=QUICK, scales=None)


class _Layer(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.layer.weight.copy_(weight)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def _model(module: nn.Module, *shape: int) -> Model:
    return Model("toy", 1, module.eval().requires_grad_(False), NoiseSchedule(), shape, "epsilon", "1" * 64)


def _correlated(rows: int, width: int, common: float) -> torch.Tensor:
    g = torch.Generator().manual_seed(5)
    return torch.randn(rows, width, generator=g) + common * torch.randn(rows, 1, generator=g)


@pytest.fixture(scope="module")
def correlated(one_thread):
    """A layer of 3 outputs and 10 inputs, whose inputs share a strong common part."""
    weight = torch.randn(3, 10, generator=torch.Generator().manual_seed(11))
    x = _correlated(256, 10, 2.0)
    model = _model(_Layer(weight), 10)
    batches = [(x, torch.zeros(256, dtype=torch.long))]
    ranges = calibrate_on(model, batches)
    return model, Scheme.parse("w4a8"), ranges, batches


THREE_BITS = Scheme(Settings(weight_bits=3))


def test_roundings__come_near_the_best_of_all_and_far_below_the_nearest(correlated) -> None:
    model, _, ranges, batches = correlated
    found = reconstruct(model, THREE_BITS, ranges, batches, LAYER)
    (log,), (quantized,) = found.logs, found.codes.values()
    x, weight = batches[0][0].double().numpy(), model.module.layer.weight.double().numpy()
    gram = x.T @ x / len(x)
    scale = quantized.scale.astype(np.float64)
    ups = np.array(list(product((0, 1), repeat=10)))
    best = 0.0
    for row in range(3):  # outputs are independent: 2^10 roundings each, exactly
        codes = np.clip(np.floor(weight[row] / scale[row]) + ups, -3, 3)
        error = codes * scale[row] - weight[row]
        best += np.einsum("ui,ij,uj->u", error, gram, error).min()
    nearest = np.clip(np.rint(weight / scale), -3, 3) * scale - weight
    assert log.before == pytest.approx(np.einsum("oi,ij,oj->", nearest, gram, nearest), rel=1e-3)
    assert best <= log.learned * (1 + 1e-3)
    assert log.learned < best + 0.05 * (log.before - best)
    assert log.before > 5 * best
    assert log.kept == "learned"
    assert log.after == log.learned
    assert 0 < log.flipped < 1


def test_roundings__a_lambda_in_units_of_nearests_error_does_not_depend_on_the_outputs_size(correlated) -> None:
    model, _, _, ((x, timestep),) = correlated
    small = [(x / 64, timestep)]
    codes = []
    for batches in ([(x, timestep)], small):
        found = reconstruct(model, THREE_BITS, calibrate_on(model, batches), batches, LAYER)
        codes.append(next(iter(found.codes.values())).codes)
    np.testing.assert_array_equal(*codes)


def test_roundings__end_hard_on_the_grid_beside_the_float_weight(correlated) -> None:
    model, _, ranges, batches = correlated
    found = reconstruct(model, THREE_BITS, ranges, batches, LAYER)
    (quantized,) = found.codes.values()
    codes, step = quantized.codes.astype(np.float32), quantized.scale
    weight = model.module.layer.weight.numpy()
    assert set(np.unique(np.clip(codes - np.floor(weight / step), 0, 1))) <= {0.0, 1.0}
    assert np.all(np.abs(codes - weight / step) <= 1)
    np.testing.assert_array_equal(found.model.module.layer.weight.numpy(), codes * step)
    assert not torch.equal(found.model.module.layer.weight, model.module.layer.weight)


def test_roundings__never_lose_to_the_nearest(correlated) -> None:
    """One long step throws the roundings about: the nearest are kept, and it is said."""
    model, _, ranges, batches = correlated
    wild = LearnRoundings(iterations=1, learning_rate=3.0, batch_size=2)
    logs = [
        reconstruct(model, THREE_BITS, ranges, batches, Reconstruction("x", "layer", "float", roundings=wild,
                    scales=None), seed=seed).logs[0] for seed in range(4)
    ]  # fmt: skip
    for log in logs:
        assert log.after <= log.before
        assert log.kept == ("nearest" if log.learned is None or log.learned > log.before else "learned")
    lost = [log for log in logs if log.kept == "nearest"]
    assert lost
    assert all(log.flipped == 0 and log.after == log.before for log in lost)


def test_roundings__divergence_stops_and_is_reported(one_thread) -> None:
    """All inputs alike: every rounding has the same gradient, so long steps round all up or all down."""
    model = _model(_Layer(torch.randn(2, 64, generator=torch.Generator().manual_seed(2))), 64)
    batches = [(_correlated(64, 1, 5.0).expand(64, 64).contiguous(), torch.zeros(64, dtype=torch.long))]
    ranges = calibrate_on(model, batches)
    wild = LearnRoundings(iterations=50, learning_rate=100.0)
    method = Reconstruction("x", "layer", "float", roundings=wild, scales=None)
    found = reconstruct(model, Scheme.parse("w4a8"), ranges, batches, method)
    (log,) = found.logs
    assert log.diverged
    assert found.diverged
    assert log.iterations < 50
    assert log.learned is None
    assert log.kept == "nearest"
    (quantized,) = found.codes.values()
    weight = model.module.layer.weight.numpy()
    np.testing.assert_array_equal(quantized.codes, np.rint(weight / quantized.scale))
    assert torch.isfinite(found.model.module.layer.weight).all()


def test_scales__divergence_stops_and_leaves_the_calibrated_ranges(correlated) -> None:
    model, scheme, ranges, batches = correlated
    method = Reconstruction(
        "x", "layer", "float", roundings=LearnRoundings(iterations=1), scales=LearnScales(60, learning_rate=50.0)
    )
    found = reconstruct(model, scheme, ranges, batches, method)
    log = found.logs[-1]
    assert (log.phase, log.diverged, log.kept) == ("scales", True, "calibrated")
    assert log.iterations < 60
    for site, role, _ in ranges.bounds:
        spec = _activation_spec(8)
        for one, other in zip(*(_parameters(r, site, role, spec) for r in (ranges, found.ranges)), strict=True):
            np.testing.assert_array_equal(one, other)


def _activation_spec(bits):
    from simulator.arithmetic.formats import IntFormat
    from simulator.arithmetic.quantizer import QuantSpec

    return QuantSpec(IntFormat(bits, signed=False))


def _parameters(ranges, site, role, spec):
    from simulator.arithmetic.quantizer import parameters_from_range

    return parameters_from_range(*ranges.of(site, role), spec)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_divergence__is_any_loss_that_is_not_finite(loss: float) -> None:
    assert Rise(10.0)(torch.tensor(loss))


def test_divergence__is_a_mean_of_many_losses_above_ten_times_the_start() -> None:
    low, high = Rise(10.0), Rise(10.0)
    said = [(low(torch.tensor(99.0)), high(torch.tensor(101.0))) for _ in range(RISE_ITERATIONS)]
    assert said == [(False, False)] * (RISE_ITERATIONS - 1) + [(False, True)]


def test_divergence__is_no_single_batch_of_few_bad_samples() -> None:
    rise = Rise(10.0)
    losses = [10.0] * 30 + [1000.0] + [10.0] * 30
    assert not any([rise(torch.tensor(loss)) for loss in losses])


def test_dropping__keeps_elements_in_float_at_its_rate() -> None:
    keep = keeping(0.3, torch.Generator().manual_seed(0))
    masks = torch.stack([keep(torch.zeros(100, 50)) for _ in range(4)])
    rate, error = masks.float().mean(), (0.3 * 0.7 / masks.numel()) ** 0.5
    assert abs(rate - 0.3) < 4 * error
    assert not torch.equal(masks[0], masks[1])
