"""Claim: bounds of heads and channels are the extremes of exactly those elements, and groups of them cover theirs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samplers.errors import BadInput
from simulator.calibration.channel_grouping import even_groups, grouped_ranges
from simulator.calibration.channels import PerChannelGroup, PerHeadChannel
from simulator.calibration.collector import Collector
from simulator.calibration.ranges import Ranges
from simulator.instrument.contractions import Linear, MatMul
from simulator.instrument.sites import SiteKey


def observed(granularity, **contractions):
    collector = Collector(granularity=granularity, outputs=True)
    for operation, contraction in contractions.items():
        collector(SiteKey("", operation), contraction)
    return collector.ranges({})


def test_per_head_channel__sees_heads_and_channels_of_attention_and_channels_elsewhere():
    q, k, p, v = (torch.randn(2, 3, *shape) for shape in ((5, 4), (7, 4), (5, 7), (7, 6)))
    qk, pv = MatMul(q, k, ("query", "key")), MatMul(p, v.transpose(-1, -2), ("probability", "value"))
    x = torch.randn(2, 5, 8)
    found = observed(PerHeadChannel(), qk=qk, pv=pv, linear=Linear(x, torch.randn(3, 8), None))
    for name, role, tensor, shape in (("qk", "query", q, (1, 3, 1, 4)), ("qk", "key", k, (1, 3, 1, 4)),
                                      ("pv", "value", v, (1, 3, 6, 1))):  # fmt: skip
        low, high = found.bounds[SiteKey("", name), role, "all"]
        assert low.shape == high.shape == shape
        assert low.reshape(3, -1).tolist() == tensor.amin(dim=(0, 2)).tolist()
        assert high.reshape(3, -1).tolist() == tensor.amax(dim=(0, 2)).tolist()
    assert found.bounds[SiteKey("", "linear"), "input", "all"][0].reshape(-1).tolist() == x.amin(dim=(0, 1)).tolist()
    folded = MatMul(q.flatten(0, 1), k.flatten(0, 1), ("query", "key"))  # no axis of heads
    assert observed(PerHeadChannel(), qk=folded).bounds[SiteKey("", "qk"), "query", "all"][0].shape == (1, 1, 4)


def test_per_channel_group__says_which_channels_its_bounds_are_of():
    found = observed(PerChannelGroup(3), linear=Linear(torch.randn(2, 8), torch.randn(3, 8), None))
    assert found.grouping(SiteKey("", "linear"), "input").tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("shape", "count", "want"),
    [((8,), 4, [0, 0, 1, 1, 2, 2, 3, 3]), ((2, 4), 1, [[0] * 4] * 2), ((2, 4), 2, [[0] * 4, [1] * 4]),
     ((2, 4), 4, [[0, 0, 1, 1], [2, 2, 3, 3]]), ((4, 2), 2, [[0, 0], [0, 0], [1, 1], [1, 1]])],
)  # fmt: skip
def test_even_groups__are_whole_heads_or_parts_of_heads(shape, count, want):
    assert even_groups(shape, count).tolist() == want


@pytest.mark.parametrize(("shape", "count"), [((8,), 3), ((2, 3), 4), ((4, 6), 3), ((6, 4), 4), ((2, 2, 2), 2)])
def test_even_groups__refuse_unequal_ones(shape, count):
    with pytest.raises(BadInput, match="equal, and whole heads"):
        even_groups(shape, count)


def test_grouped_ranges__cover_the_channels_of_each_group():
    key, other = (SiteKey("a", "linear"), "input", "all"), (SiteKey("b", "linear"), "input", "all")
    low, high = np.array([[-1.0, -3, 0, -2]]), np.array([[0.0, 1, 5, -1]])
    ranges = Ranges({key: (low, high), other: (low, high)}, {"seed": 1})
    found = grouped_ranges(ranges, {key: np.array([1, 0, 0, 1])})
    assert [bound.tolist() for bound in found.bounds[key]] == [[-3, -2], [5, 0]]
    assert [bound.tolist() for bound in found.bounds[other]] == [-3, 5]
    assert found.grouping(*key[:2]).tolist() == [1, 0, 0, 1]
    assert (
        found.source["channel_groups"] != grouped_ranges(ranges, {key: np.array([0, 0, 0, 1])}).source["channel_groups"]
    )
    for wrong in ({key: np.arange(3)}, {(*key[:2], "0"): np.arange(4)}, {key: np.arange(4.0)}):
        with pytest.raises(BadInput, match="a:linear input"):
            grouped_ranges(ranges, wrong)
