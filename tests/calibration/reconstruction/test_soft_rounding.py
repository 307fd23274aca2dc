"""Claim: the relaxed rounding starts at the fraction, has the stated regularizer and gradient, and cools as stated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simulator.calibration.reconstruction.soft_rounding import (
    alpha_of,
    hard_rounding,
    regularizer,
    soft_rounding,
    temperature,
)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_alpha__gives_its_fraction_back(fractions) -> None:
    fraction = torch.tensor(fractions, dtype=torch.float32)
    torch.testing.assert_close(soft_rounding(alpha_of(fraction)), fraction, rtol=0, atol=1e-6)


def test_alpha__rounds_up_where_the_fraction_is_at_least_a_half() -> None:
    fraction = torch.tensor([0.0, 0.25, 0.499, 0.501, 0.75, 1.0])
    assert hard_rounding(alpha_of(fraction)).tolist() == [0, 0, 0, 1, 1, 1]


def test_soft_rounding__reaches_0_and_1_and_is_the_rectified_sigmoid() -> None:
    alpha = torch.linspace(-6, 6, 49)
    expected = np.clip(1 / (1 + np.exp(-alpha.double().numpy())) * 1.2 - 0.1, 0, 1)
    np.testing.assert_allclose(soft_rounding(alpha).numpy(), expected, atol=1e-6)
    assert soft_rounding(torch.tensor([-3.0, 3.0])).tolist() == [0, 1]


@pytest.mark.parametrize("b", [20.0, 7.5, 2.0])
def test_regularizer__has_its_analytic_gradient(b) -> None:
    h = torch.tensor([0.0, 0.03, 0.2, 0.45, 0.5, 0.7, 0.98, 1.0], dtype=torch.float64, requires_grad=True)
    value = regularizer(h, b)
    assert torch.isclose(value, (1 - (2 * h - 1).abs() ** b).sum())
    value.backward()
    v = (2 * h - 1).detach()
    torch.testing.assert_close(h.grad, -2 * b * v.abs() ** (b - 1) * v.sign())


def test_regularizer__is_0_for_hard_roundings_and_1_at_a_half() -> None:
    assert regularizer(torch.tensor([0.0, 1.0, 1.0]), 20.0) == 0
    assert regularizer(torch.tensor([0.5, 0.5]), 2.0) == 2


def test_temperature__is_none_in_the_warm_up_and_then_falls_on_a_line() -> None:
    found = [temperature(i, 100, 0.2, (20.0, 2.0)) for i in range(100)]
    assert found[:20] == [None] * 20
    np.testing.assert_allclose(found[20:], 20 - 18 * np.arange(80) / 80)
    assert temperature(0, 10, 0.0, (20.0, 2.0)) == 20
