"""From bounds of channels to bounds of groups of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.arguments import require_integer
from simulator.calibration.ranges import WEIGHT, Bounds, Ranges
from simulator.instrument.sites import SiteKey

Key = tuple[SiteKey, str, str]
"""Site, role and name of the step set."""


def even_groups(shape: tuple[int, ...], count: int) -> np.ndarray:
    """``count`` groups of as many consecutive channels, int64 of ``shape``.

    Args:
        shape: (channels,), or (heads, channels): then a group is whole heads, or a head is whole groups.
        count: number of groups.

    Raises:
        BadInput: groups that would be unequal, or that would cut heads unequally.
    """
    require_integer("count", count, 1)
    total, heads = prod(shape), shape[0] if len(shape) == 2 else 1
    if len(shape) not in (1, 2) or total % count or (heads % count and count % heads):
        raise BadInput(
            "groups must be equal, and whole heads or whole parts of heads",
            got=f"{count} groups of {shape} channels",
            fix="choose a number that divides the heads, or that the heads and the channels divide evenly",
        )
    return (np.arange(total) // (total // count)).reshape(shape)


def grouped_ranges(ranges: Ranges, groups: Mapping[Key, np.ndarray]) -> Ranges:
    """Ranges with one bound per group: the smallest low and the largest high of its channels.

    Args:
        ranges: bounds of channels (``PerChannel()``), or of heads and channels (``PerHeadChannel()``).
        groups: the group of each channel, by operand and step set: integers (channels,) or (heads, channels), numbered
            0, 1, ...; groups need not be contiguous. Run-time operands without an entry get one bound for the
            tensor.

    Returns:
        Ranges whose source tells of the groups by a digest.

    Raises:
        BadInput: groups of operands without bounds, or of other channels than the bounds are of.
    """
    for key, group in groups.items():
        known = ranges.bounds.get(key, (np.empty(0), None))[0].size if key not in ranges.groups else 0
        if not isinstance(group, np.ndarray) or group.dtype.kind not in "iu" or not group.size or group.size != known:
            raise BadInput(
                "groups must be integers, one for each of an operand's bounds",
                got=f"{getattr(group, 'shape', group)} for {known} bounds at {key[0]} {key[1]} {key[2]}",
                fix="calibrate with PerChannel() or PerHeadChannel()",
            )
    bounds = {
        key: bound if key[1] == WEIGHT else _bounds(bound, groups.get(key)) for key, bound in ranges.bounds.items()
    }
    digest = sha256()
    for key in sorted(groups, key=str):
        digest.update(f"{key[0]} {key[1]} {key[2]} {groups[key].tolist()}".encode())
    source = {**ranges.source, "channel_groups": digest.hexdigest()}
    return replace(ranges, bounds=bounds, source=source, groups=dict(groups))


def _bounds(bounds: Bounds, group: np.ndarray | None) -> Bounds:
    low, high = bounds
    if group is None:
        return np.array(low.min()), np.array(high.max())
    number = group.reshape(-1)
    found = np.full((2, int(number.max()) + 1), np.inf)
    np.minimum.at(found[0], number, low.reshape(-1))
    np.minimum.at(found[1], number, -high.reshape(-1))
    return found[0], -found[1]
