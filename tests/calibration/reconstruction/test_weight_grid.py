"""Claim: a grid's nearest codes and values are the engine's, whatever the layout, groups and zero points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simulator.arithmetic.formats import IntFormat
from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor
from simulator.arithmetic.quantizer import QuantSpec, dequantize, quantize_to_range
from simulator.calibration.fit import fit_range
from simulator.calibration.observers import MinMax
from simulator.calibration.reconstruction.grid import WeightGrid
from simulator.calibration.reconstruction.soft_rounding import alpha_of, soft_rounding
from simulator.instrument.weight_layout import WeightLayout

NARROW = IntFormat(4, signed=True, narrow=True)
SPECS = [
    QuantSpec(NARROW, PerAxis((0,)), symmetric=True),
    QuantSpec(NARROW, PerGroup(1, 3, (0,)), symmetric=True),
    QuantSpec(NARROW, PerTensor(), symmetric=True),
    QuantSpec(IntFormat(3, signed=False), PerAxis((0,))),
]


def _weight(*shape: int) -> torch.Tensor:
    """Halves of the step of a maximum of 7: full of ties."""
    draws = torch.randint(-14, 15, shape, generator=torch.Generator().manual_seed(3))
    return draws.float() / 2


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("layout", [WeightLayout(), WeightLayout(1), WeightLayout(2)])
def test_grid__nearest_codes_and_values_are_the_engines(spec, layout) -> None:
    weight = _weight(4, 8, 3, 2)
    plain = layout.outputs_first(weight)
    grid = WeightGrid(weight, layout, spec, fit_range(plain.numpy(), spec, MinMax()))
    engine = quantize_to_range(plain.numpy(), spec)
    np.testing.assert_array_equal(grid.quantized(grid.nearest).codes, engine.codes)
    assert torch.equal(layout.outputs_first(grid.values(grid.nearest)), torch.from_numpy(dequantize(engine)))


@pytest.mark.parametrize("spec", SPECS)
def test_grid__soft_weights_start_at_the_float_ones(spec) -> None:
    weight = torch.randn(6, 7, generator=torch.Generator().manual_seed(1))
    grid = WeightGrid(weight, WeightLayout(), spec, fit_range(weight.numpy(), spec, MinMax()))
    soft = grid.values(grid.codes(soft_rounding(alpha_of(grid.fraction))))
    torch.testing.assert_close(soft, weight, rtol=0, atol=float(grid.scale.max()) * 1e-4 + _clipped(grid, weight))


def _clipped(grid: WeightGrid, weight: torch.Tensor) -> float:
    """What an asymmetric range, whose zero point is rounded, can cut off at an end."""
    return 0.0 if grid.spec.symmetric else float(grid.scale.max()) / 2


def test_grid__codes_stay_in_the_narrow_range() -> None:
    weight = torch.tensor([[7.0, -7.0, 6.9, -6.9]])
    grid = WeightGrid(weight, WeightLayout(), SPECS[0], fit_range(weight.numpy(), SPECS[0], MinMax()))
    assert grid.codes(torch.ones(1, 4)).tolist() == [[7, -6, 7, -6]]
    assert grid.codes(torch.zeros(1, 4)).tolist() == [[7, -7, 6, -7]]


@pytest.mark.parametrize("groups", [1, 2])
def test_layout__is_that_of_torchs_transposed_convolution(groups) -> None:
    """The output channel of a plain row is the one that the row's weights feed."""
    weight = _weight(4, 3, 2, 2)
    layout = WeightLayout(groups)
    plain = layout.outputs_first(weight)
    assert torch.equal(layout.outputs_first(plain), weight)
    for output in range(3 * groups):
        kept = torch.zeros_like(plain)
        kept[output] = plain[output]
        made = torch.nn.functional.conv_transpose2d(torch.ones(1, 4, 2, 2), layout.outputs_first(kept), groups=groups)
        other = [channel for channel in range(3 * groups) if channel != output]
        assert not made[:, other].any()
        assert made[:, output].any()
