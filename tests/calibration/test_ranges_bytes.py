"""Claim: ranges come back from their bytes to the last bit, and nothing else passes for them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.ddim import DDIM
from samplers.errors import BadInput
from simulator.calibration.channel_grouping import even_groups, grouped_ranges
from simulator.calibration.channels import PerChannel
from simulator.calibration.observers import MinMax
from simulator.calibration.ranges import Ranges
from simulator.calibration.ranges_bytes import ranges_from_bytes, ranges_to_bytes
from simulator.calibration.steps import StepSets
from simulator.calibration.trajectory import calibrate_ranges
from simulator.calibration.weights import weight_ranges
from simulator.instrument.scheme import Scheme
from simulator.provenance import canonical

STEPS = 4


def assert_same(found: Ranges, expected: Ranges) -> None:
    assert list(found.bounds) == list(expected.bounds)
    assert list(found.groups) == list(expected.groups)
    for key, bounds in expected.bounds.items():
        for a, b in zip(found.bounds[key], bounds, strict=True):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    for key, group in expected.groups.items():
        np.testing.assert_array_equal(found.groups[key], group)
    assert canonical(dict(found.source)) == canonical(dict(expected.source))
    assert found.steps == expected.steps


@pytest.mark.parametrize("steps", [StepSets(), StepSets.each(STEPS), StepSets.partition(2, STEPS)])
def test_ranges__come_back_with_steps_outputs_and_weights(tiny_model, steps) -> None:
    sampler = DDIM(tiny_model.schedule, STEPS)
    found = calibrate_ranges(tiny_model, sampler, samples=4, steps=steps, outputs=True)
    found = found.with_weights(weight_ranges(tiny_model, Scheme.parse("w4a8"), MinMax()))
    assert_same(ranges_from_bytes(ranges_to_bytes(found)), found)


def test_ranges__come_back_with_groups(tiny_model) -> None:
    found = calibrate_ranges(tiny_model, DDIM(tiny_model.schedule, STEPS), samples=4, granularity=PerChannel())
    groups = {key: even_groups((low.size,), 2) for key, (low, _) in found.bounds.items() if low.size % 2 == 0}
    grouped = grouped_ranges(found, groups)
    assert grouped.groups
    assert_same(ranges_from_bytes(ranges_to_bytes(grouped)), grouped)


@given(st.binary(max_size=200))
def test_ranges_from_bytes__refuses_other_bytes(content: bytes) -> None:
    with pytest.raises(BadInput, match="ranges_to_bytes"):
        ranges_from_bytes(content)
