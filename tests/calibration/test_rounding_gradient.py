"""Claim: a surrogate has the engine's values and LSQ's gradients; learned parameters reach the engine exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samplers import BadInput
from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.quantizer import QuantSpec, dequantize, parameters_from_range, quantize
from simulator.calibration.parameters import bounds_of
from simulator.calibration.rounding_gradient import fake_quantize, gradient_scale, round_through


@pytest.mark.parametrize(("bits", "signed", "zero"), [(8, False, 131), (4, False, 0), (4, True, 0)])
def test_fake_quantize__has_the_engines_values(bits, signed, zero) -> None:
    spec = QuantSpec(IntFormat(bits, signed=signed, narrow=signed), symmetric=signed)
    scale = np.float32(0.037)
    halves = np.arange(-700, 700).astype(np.float32) / 2 * scale  # every tie, and both clipped sides
    x = np.concatenate([halves, np.nextafter(halves, np.float32(9)), np.nextafter(halves, np.float32(-9))])
    expected = dequantize(quantize(x, spec, np.array(scale).reshape(1), np.array([zero], np.int32)))
    found = fake_quantize(
        torch.from_numpy(x), torch.tensor(scale), torch.tensor(float(zero)), spec.format.qmin, spec.format.qmax
    )
    np.testing.assert_array_equal(found.numpy(), expected)


def test_fake_quantize__has_lsqs_gradients() -> None:
    x = torch.tensor([-9.0, -0.26, 0.12, 0.61, 9.0], requires_grad=True)
    scale, zero = torch.tensor(0.25, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    (fake_quantize(x, scale, zero, 0, 7) * weight).sum().backward()
    inside = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(x.grad, inside * weight)
    v = (x / scale).detach()
    of_scale = torch.where(inside > 0, torch.round(v) - v, torch.tensor([-3.0, 0, 0, 0, 4.0]))
    torch.testing.assert_close(scale.grad, (of_scale * weight).sum())
    torch.testing.assert_close(zero.grad, -(0.25 * (1 - inside) * weight).sum())


def test_gradient_scale__changes_the_gradient_and_no_bit() -> None:
    x = torch.tensor([0.1, 3.3e8, -1e-30], requires_grad=True)
    y = gradient_scale(x, 0.37)
    assert torch.equal(x, y)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((3,), 0.37))
    assert torch.equal(round_through(x), torch.round(x))


@given(st.floats(2.0**-100, 2.0**100, width=32), st.integers(2, 16), st.data())
def test_bounds__give_their_scale_and_zero_point_back(scale, bits, data) -> None:
    zero = data.draw(st.integers(0, 2**bits - 1))
    for spec, z in ((QuantSpec(IntFormat(bits, signed=False)), zero), (QuantSpec(IntFormat(bits), symmetric=True), 0)):
        given_ = np.array([scale], np.float32), np.array([z], np.int32)
        found = parameters_from_range(*bounds_of(*given_, spec), spec)
        np.testing.assert_array_equal(found, given_)


def test_bounds__of_one_tensor_are_arrays_that_ranges_take() -> None:
    bounds = bounds_of(np.asarray(np.float32(0.1)), np.asarray(3), QuantSpec(IntFormat(8, signed=False)))
    assert all(isinstance(bound, np.ndarray) and bound.shape == () for bound in bounds)


def test_bounds__refuse_what_no_range_gives() -> None:
    spec = QuantSpec(IntFormat(8, signed=False))
    with pytest.raises(BadInput, match="those of a range"):
        bounds_of(np.array([0.1], np.float32), np.array([256], np.int32), spec)
    with pytest.raises(BadInput, match="those of a range"):
        bounds_of(np.array([1e-40], np.float32), np.array([0], np.int32), spec)
