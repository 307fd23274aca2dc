"""Claim: expand and reduce of every granularity are what naive loops over elements give, ragged groups included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.arithmetic.granularity import PerAxis, PerGroup, PerTensor


@st.composite
def cases(draw):
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    axes = tuple(draw(st.sets(st.integers(0, len(shape) - 1))))
    axis = draw(st.integers(0, len(shape) - 1))
    group = PerGroup(axis, draw(st.integers(1, 8)), tuple(a for a in axes if a != axis))
    return shape, draw(st.sampled_from([PerTensor(), PerAxis(axes), group]))


def parameter_index(granularity, index):
    """Where an element's parameter lies, from the definition."""
    if isinstance(granularity, PerTensor):
        return (0,) * len(index)
    at = [i if axis in granularity.axes else 0 for axis, i in enumerate(index)]
    if isinstance(granularity, PerGroup):
        at[granularity.axis] = index[granularity.axis] // granularity.size
    return tuple(at)


@given(cases())
def test_parameter_shape__has_one_entry_for_each_set_of_elements(case):
    shape, granularity = case
    used = {parameter_index(granularity, index) for index in np.ndindex(shape)}
    assert set(np.ndindex(granularity.parameter_shape(shape))) == used


@given(cases())
def test_expand__gives_each_element_its_own_parameter(case):
    shape, granularity = case
    parameters = granularity.parameter_shape(shape)
    parameter = np.arange(np.prod(parameters)).reshape(parameters)
    expanded = granularity.expand(parameter, shape)
    assert expanded.shape == shape
    for index in np.ndindex(shape):
        assert expanded[index] == parameter[parameter_index(granularity, index)]


@pytest.mark.parametrize("ufunc", [np.minimum, np.maximum, np.add])
@given(case=cases(), seed=st.integers(0, 99))
def test_reduce__combines_exactly_the_elements_that_share_a_parameter(ufunc, case, seed):
    shape, granularity = case
    tensor = np.random.default_rng(seed).integers(-50, 50, shape)
    want: dict[tuple, int] = {}
    for index in np.ndindex(shape):
        at = parameter_index(granularity, index)
        want[at] = int(ufunc(want[at], tensor[index])) if at in want else int(tensor[index])
    got = granularity.reduce(tensor, ufunc)
    assert got.shape == granularity.parameter_shape(shape)
    assert {index: int(got[index]) for index in np.ndindex(got.shape)} == want


def test_per_group__ends_with_a_shorter_group():
    assert PerGroup(1, 4, (0,)).parameter_shape((3, 10, 2)) == (3, 3, 1)
    assert PerGroup(0, 4).starts(10).tolist() == [0, 4, 8]
    assert PerGroup(0, 5).starts(10).tolist() == [0, 5]
    assert PerGroup(0, 99).parameter_shape((10,)) == (1,)
