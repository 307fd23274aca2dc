"""Claim: each surrogate has its paper's gradients, and NIPQ's noise is uniform over one step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from simulator.calibration.rounding_gradient import fake_quantize
from simulator.calibration.training.surrogates import clipped_step, learned_step, noisy_step

CODES = [(0, 15, 6.3), (-7, 7, 0.0)]  # asymmetric activations, symmetric weights


def values(seed: int = 0) -> torch.Tensor:
    """Float64, well inside and well outside four bits at scale 0.3; none within 1e-3 of a tie."""
    x = torch.from_numpy(np.random.default_rng(seed).uniform(-6, 6, 400))
    distance = ((x / 0.3) * 2 - torch.round((x / 0.3) * 2)).abs()
    return x[distance > 1e-3]


def held(x, scale, zero, qmin, qmax, at):
    """The quantizer as a smooth function of scale and zero point near ``at``: rounding residuals, and which codes are
    clipped, are held."""
    scale0, zero0 = at
    place = zero + (round(zero0) - zero0)
    codes = x / scale + (torch.round(x / scale0) - x / scale0) + place
    first = torch.round(x / scale0) + round(zero0)
    codes = torch.where(first < qmin, qmin, torch.where(first > qmax, qmax, codes))
    return (codes - place) * scale


@pytest.mark.parametrize(("qmin", "qmax", "zero"), CODES)
@pytest.mark.parametrize("wanted", ["scale", "zero"])
def test_learned_step__has_the_gradient_of_the_surrogate(qmin, qmax, zero, wanted) -> None:
    x, weight, step = values(), values(1), 1e-6
    weight = torch.nn.functional.pad(weight, (0, max(len(x) - len(weight), 0)))[: len(x)]
    at = {"scale": 0.3, "zero": zero}
    taken = {name: torch.tensor(v, dtype=torch.float64, requires_grad=True) for name, v in at.items()}
    (learned_step(x, taken["scale"], taken["zero"], qmin, qmax, 1) * weight).sum().backward()
    moved = [
        (held(x, qmin=qmin, qmax=qmax, at=(0.3, zero), **(at | {wanted: at[wanted] + d})) * weight).sum()
        for d in (-step, step)
    ]
    expected = (moved[1] - moved[0]) / (2 * step)
    assert expected.abs() > 1
    torch.testing.assert_close(taken[wanted].grad * qmax**0.5, expected, rtol=1e-6, atol=1e-6)


def test_learned_step__scales_gradients_by_features_and_codes_and_changes_no_value() -> None:
    x, found = values().float(), []
    for features in (1, 100):
        scale, zero = torch.tensor(0.3, requires_grad=True), torch.tensor(6.0, requires_grad=True)
        y = learned_step(x, scale, zero, 0, 15, features)
        assert torch.equal(y, fake_quantize(x, scale, zero, 0, 15))
        y.sum().backward()
        found.append((scale.grad, zero.grad))
    plain, at = [], (torch.tensor(0.3, requires_grad=True), torch.tensor(6.0, requires_grad=True))
    fake_quantize(x, *at, 0, 15).sum().backward()
    plain = [p.grad for p in at]
    for one, hundred, whole in zip(*found, plain, strict=True):
        torch.testing.assert_close(one, whole / 15**0.5)
        torch.testing.assert_close(hundred, whole / 1500**0.5)


def test_clipped_step__has_pacts_gradients() -> None:
    x = torch.tensor([-3.0, -2.0, -1.9, 0.31, 3.9, 4.0, 9.0], requires_grad=True)
    below, above = torch.tensor(2.0, requires_grad=True), torch.tensor(4.0, requires_grad=True)
    weight = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    scale = (above + below) / 15
    y = clipped_step(x, below, above, scale, torch.tensor(5.0), 0, 15)
    assert torch.equal(y, fake_quantize(x, scale, torch.tensor(5.0), 0, 15))
    (y * weight).sum().backward()
    assert x.grad.tolist() == [0, 0, 4, 8, 16, 0, 0]
    assert above.grad.item() == 32 + 64  # 1[x >= above], no rounding error through the scale
    assert below.grad.item() == -(1 + 2)


def test_clipped_step__with_one_bound_is_the_papers_formula() -> None:
    x = torch.linspace(-1, 3, 401, dtype=torch.float64)
    alpha = torch.tensor(1.7003, dtype=torch.float64, requires_grad=True)
    y = 0.5 * (x.abs() - (x - alpha).abs() + alpha)
    (expected,) = torch.autograd.grad(y.sum(), alpha)
    found = clipped_step(x, torch.zeros((), dtype=torch.float64), alpha, alpha / 255, torch.zeros(()).double(), 0, 255)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), alpha)[0], expected)
    assert (found - y).abs().max() <= alpha / 510 + 1e-12


def test_noisy_step__adds_uniform_noise_of_one_step_after_clipping() -> None:
    random, count = torch.Generator().manual_seed(5), 200_000
    x = torch.linspace(-9, 9, count)
    noise = torch.rand(count, generator=random) - 0.5
    scale, zero = torch.tensor(0.3), torch.tensor(6.0)
    y = noisy_step(x, scale, zero, 0, 15, 1, noise)
    clipped = x.clamp(-6 * 0.3, 9 * 0.3)
    added = ((y - clipped) / scale).numpy()
    assert stats.kstest(added, stats.uniform(-0.5, 1).cdf).pvalue > 0.01
    assert abs(np.corrcoef(added, clipped)[0, 1]) < 4 / count**0.5
    assert y.max() > 9 * 0.3  # noise beyond the clipping


def test_noisy_step__has_the_gradients_of_its_formula() -> None:
    x, step = values(), 1e-6
    noise = torch.from_numpy(np.random.default_rng(3).uniform(-0.5, 0.5, len(x)))
    scale = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    noisy_step(x, scale, torch.tensor(6.0).double(), 0, 15, 1, noise).sum().backward()
    moved = [(x.clamp(-6 * s, 9 * s) + s * noise).sum() for s in (0.3 - step, 0.3 + step)]
    torch.testing.assert_close(scale.grad * 15**0.5, (moved[1] - moved[0]) / (2 * step), rtol=1e-6, atol=1e-6)
