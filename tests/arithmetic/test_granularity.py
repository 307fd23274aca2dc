"""Claim: expand and reduce of every granularity are what naive loops over elements give, ragged groups included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplers.errors import BadInput
from simulator.arithmetic.granularity import PerAxis, PerBlock, PerGroup, PerTensor


@st.composite
def cases(draw):
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    axes = tuple(draw(st.sets(st.integers(0, len(shape) - 1))))
    axis = draw(st.integers(0, len(shape) - 1))
    group = PerGroup(axis, draw(st.integers(1, 8)), tuple(a for a in axes if a != axis))
    block = PerBlock(tuple(draw(st.sampled_from([None, 1, 2, 3, 8])) for _ in shape))
    return shape, draw(st.sampled_from([PerTensor(), PerAxis(axes), group, block]))


def parameter_index(granularity, index):
    """Where an element's parameter lies, from the definition."""
    if isinstance(granularity, PerTensor):
        return (0,) * len(index)
    if isinstance(granularity, PerBlock):
        return tuple(0 if size is None else i // size for i, size in zip(index, granularity.sizes, strict=True))
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


def test_per_block__ends_with_shorter_blocks_on_every_axis():
    block = PerBlock((128, 128))
    assert block.parameter_shape((300, 129)) == (3, 2)
    tensor = np.arange(300 * 129).reshape(300, 129)
    assert block.reduce(tensor, np.maximum).tolist() == [
        [tensor[127, 127], tensor[127, 128]],
        [tensor[255, 127], tensor[255, 128]],
        [tensor[299, 127], tensor[299, 128]],
    ]
    assert np.array_equal(np.unique(block.expand(np.arange(6).reshape(3, 2), (300, 129))[256:, 128:]), [5])


@given(st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 4)), st.integers(1, 5))
def test_per_block__contains_the_other_granularities(shape, size):
    tensor = np.random.default_rng(0).integers(-50, 50, shape)
    same = {
        PerTensor(): PerBlock((None, None, None)),
        PerAxis((0, 1)): PerBlock((1, 1, None)),
        PerGroup(1, size, (0,)): PerBlock((1, size, None)),
    }
    for granularity, block in same.items():
        assert block.parameter_shape(shape) == granularity.parameter_shape(shape)
        assert np.array_equal(block.reduce(tensor, np.maximum), granularity.reduce(tensor, np.maximum))


def test_per_axis__is_per_token_and_per_batch_and_head_with_two_axes():
    rng = np.random.default_rng(7)
    hidden = rng.integers(-99, 99, (2, 5, 16))  # batch, token, channel
    token = PerAxis((0, 1))
    assert token.parameter_shape(hidden.shape) == (2, 5, 1)
    assert np.array_equal(token.reduce(hidden, np.maximum)[..., 0], [[row.max() for row in item] for item in hidden])
    heads = rng.integers(-99, 99, (2, 4, 5, 8))  # batch, head, token, channel
    head = PerAxis((0, 1))
    assert head.parameter_shape(heads.shape) == (2, 4, 1, 1)
    assert np.array_equal(head.reduce(heads, np.minimum)[:, :, 0, 0], [[h.min() for h in item] for item in heads])
    parameter = np.arange(8).reshape(2, 4, 1, 1)
    assert np.all(head.expand(parameter, heads.shape)[1, 2] == 6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: PerAxis((0, 0)),
        lambda: PerGroup(1, 4, (0, 0)),
        lambda: PerGroup(-1, 4).parameter_shape((3, 4)),
        lambda: PerAxis((-1,)).parameter_shape((3, 4)),
        lambda: PerBlock((4, 0)),
        lambda: PerBlock((4, 2.5)),
        lambda: PerBlock((4, 4)).parameter_shape((3, 4, 5)),
        lambda: PerBlock((4,)).reduce(np.zeros((3, 4)), np.maximum),
        lambda: PerBlock((4, 4)).expand(np.zeros((1, 1)), (4,)),
    ],
)
def test_granularity__refuses_axes_that_are_negative_repeated_or_missing(call):
    with pytest.raises(BadInput):
        call()
