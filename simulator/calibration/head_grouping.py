"""Groups of attention channels that are whole heads or whole parts of heads: PTQ-AttnDM's."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from samplers.errors import BadInput
from simulator.calibration.channel_grouping import Key, even_groups
from simulator.calibration.channels import heads_and_channels
from simulator.calibration.ranges import Ranges
from simulator.instrument.scheme.patterns import select
from simulator.instrument.sites import SiteKey
from simulator.instrument.survey import SiteFacts

HEAD_SITES = ("@attention", "@output")
"""Where attention channels are operands: QK^T, P V, and the projection that reads all heads."""

_ROLES = ("query", "key", "value")

HeadShapes = dict[tuple[SiteKey, str], tuple[int, int]]
"""(heads, channels of each) by operand."""


def head_shapes(sites: tuple[SiteFacts, ...]) -> HeadShapes:
    """Heads and channels of query, key, value, and of the output projection's input, where they lie side by side.

    Raises:
        BadInput: no attention or no output projection of a customary name; attention whose heads have no axis; an
            output projection that does not read the heads of the attention before it.
    """
    select(HEAD_SITES[0], sites)
    outputs = select(HEAD_SITES[1], sites)
    found: HeadShapes = {}
    last: tuple[int, int] | None = None
    for facts in sites:
        for role, shape in zip(facts.roles, facts.shapes, strict=False):
            axes = heads_and_channels(role, len(shape))
            if axes is not None:
                last = found[facts.key, role] = shape[axes[0]], shape[axes[1]]
            elif role in _ROLES:
                raise BadInput(
                    "head-aligned groups need attention with an axis of heads", got=f"{shape} at {facts.key} {role}",
                    fix="use attention that keeps (samples, heads, tokens, channels)",
                )  # fmt: skip
        if facts.key in outputs:
            if last is None or facts.contracted != prod(last):
                raise BadInput(
                    "an output projection must read the heads of the attention before it",
                    got=f"{facts.contracted} channels at {facts.key} after {last}", fix="use plain attention",
                )  # fmt: skip
            found[facts.key, "input"] = last
    return found


def most_groups(shapes: Iterable[tuple[int, int]], most: int) -> int:
    """The largest number, ``most`` or less, of equal groups that cut no head unequally in any shape; 1 always does."""
    every = set(shapes)

    def fits(n: int) -> bool:
        return all(prod(s) % n == 0 and (s[0] % n == 0 or n % s[0] == 0) for s in every)

    return max(n for n in range(1, most + 1) if fits(n))


def head_groups(ranges: Ranges, shapes: HeadShapes, count: int) -> dict[Key, np.ndarray]:
    """The group of every attention channel, for ``grouped_ranges``: ``count`` equal groups in order.

    Args:
        ranges: of ``PerHeadChannel()``.
        shapes: of the network that they are of.
        count: groups of each operand.

    Raises:
        BadInput: groups that would be unequal, or that would cut heads unequally.
    """
    found = {}
    for site, role, name in ranges.bounds:
        if (site, role) in shapes:
            group = even_groups(shapes[site, role], count)
            found[site, role, name] = group if role in _ROLES else group.reshape(-1)
    return found
