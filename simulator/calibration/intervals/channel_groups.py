"""Channels in groups that share bounds, for each step set: APQ-DM's grouping (Wang et al., CVPR 2024), hard form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from samplers.errors import BadInput
from samplers.validation import require_choice, require_int
from simulator.calibration.ranges import Bounds, Ranges
from simulator.calibration.steps import StepSets
from simulator.instrument.sites import SiteKey

PAIRINGS = ("nested", "ascending")


@dataclass(frozen=True)
class ChannelGroups:
    """Which group each channel of an operand belongs to, and the bounds of the groups.

    Attributes:
        assignment: int64 (channels,), each in 0..groups - 1.
        low: float64 (groups,).
        high: float64 (groups,).

    Raises:
        BadInput: arrays of another form, a group that does not exist, or bounds that are not finite and ordered.
    """

    assignment: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def __post_init__(self) -> None:
        a, low, high = self.assignment, self.low, self.high
        shaped = a.ndim == 1 and a.dtype == np.int64 and low.ndim == 1 and low.shape == high.shape and a.size
        if not shaped or low.dtype != np.float64 or high.dtype != np.float64:
            raise BadInput(
                "groups are int64 (channels,) and float64 (groups,) twice",
                got=f"{a.dtype} {a.shape}, {low.dtype} {low.shape}, {high.shape}", fix="pass such arrays",
            )  # fmt: skip
        if a.min() < 0 or a.max() >= len(low) or not (np.isfinite(low) & np.isfinite(high) & (low <= high)).all():
            raise BadInput(
                "every channel needs a group with finite low <= high", got=f"{a}, {low}, {high}", fix="check the groups"
            )

    def by_channel(self) -> Bounds:
        """Low and high of each channel, (channels,)."""
        return self.low[self.assignment], self.high[self.assignment]


@dataclass(frozen=True)
class GroupedRanges:
    """Channel groups of every operand, for each set of steps.

    Attributes:
        groups: (site, role, name of the step set) -> groups.
        source: how they were found, as plain JSON values.
        steps: the sets.

    Raises:
        BadInput: groups of unknown sets.
    """

    groups: Mapping[tuple[SiteKey, str, str], ChannelGroups]
    source: Mapping[str, Any]
    steps: StepSets

    def __post_init__(self) -> None:
        names = {s.name for s in self.steps.sets}
        for site, role, name in self.groups:
            if name not in names:
                raise BadInput("groups must belong to a step set", got=f"{name!r} at {site} {role}", fix="add the set")

    def of(self, site: SiteKey, role: str, step: int | None = None) -> ChannelGroups:
        """Groups of one operand at a step; without a step they must serve every one.

        Raises:
            BadInput: none, or the step lies outside all sets.
        """
        try:
            return self.groups[site, role, self.steps.serving(step)]
        except KeyError:
            raise BadInput("every operand needs its groups", got=f"none for {site} {role}", fix="group all") from None

    def bounds(self) -> dict[tuple[SiteKey, str, str], Bounds]:
        """Low and high (groups,) of each operand and set."""
        return {key: (found.low, found.high) for key, found in self.groups.items()}

    def assignments(self) -> dict[tuple[SiteKey, str, str], np.ndarray]:
        """Group (channels,) of each channel, of each operand and set."""
        return {key: found.assignment for key, found in self.groups.items()}


def grouped_steps(count: int, groups: int) -> StepSets:
    """Steps in ``groups`` consecutive sets whose sizes differ by one at most, the larger first.

    Raises:
        BadInput: a number below 1, or more groups than steps.
    """
    steps, sets = require_int("count", count, 1), require_int("groups", groups, 1)
    if sets > steps:
        raise BadInput(f"groups must be at most {steps}", got=sets, fix="use one group per step")
    sizes = [steps // sets + (i < steps % sets) for i in range(sets)]
    return StepSets.partition(*np.cumsum(sizes).tolist())


def channel_groups(ranges: Ranges, *, groups: int = 8, pairing: str = "nested") -> GroupedRanges:
    """Group the channels of every operand by their calibrated bounds, apart for each step set.

    The lows of all channels are cut into ``groups`` bins of equal width, and so are the highs. ``nested`` (default):
    bins are numbered from the narrow end, the highest low and the lowest high, a channel joins the group that is the
    larger of its two bins, and a group's bounds are the extremes of its channels: nothing is clipped that per-tensor
    bounds would not clip. ``ascending`` is what the released code pairs: bin g of the lows with bin g of the highs,
    both counted upwards; a channel joins the group that is closest to its own bounds, so that it may be clipped.
    Groups without channels are dropped.

    Args:
        ranges: per channel, as ``calibrate_ranges(granularity=PerChannel(), steps=StepSets.each(n))`` gives.
        groups: bins, 8 in the paper.
        pairing: of bins of lows with bins of highs.

    Raises:
        BadInput: ranges per tensor, or an argument that breaks its rule.
    """
    require_int("groups", groups, 1)
    require_choice("pairing", pairing, PAIRINGS)
    group = _nested if pairing == "nested" else _ascending
    found = {key: group(*channel_bounds(key, bounds), groups) for key, bounds in ranges.bounds.items()}
    return GroupedRanges(found, {**ranges.source, "groups": groups, "pairing": pairing}, ranges.steps)


def channel_bounds(key: tuple[SiteKey, str, str], bounds: Bounds) -> Bounds:
    """Low and high (channels,) of per-channel bounds.

    Raises:
        BadInput: they are per tensor.
    """
    low, high = bounds
    if not low.ndim or max(low.shape) != low.size:
        raise BadInput(
            "grouping needs one range per channel", got=f"shape {low.shape} at {key[0]} {key[1]}",
            fix="calibrate with granularity=PerChannel()",
        )  # fmt: skip
    return low.reshape(-1), high.reshape(-1)


def bin_bounds(low: np.ndarray, high: np.ndarray, groups: int, pairing: str = "ascending") -> Bounds:
    """Bounds of released code's groups: the smallest low in each bin of lows, the largest high in each bin of highs.

    An empty bin gives its upper edge. Both ascend; with ``pairing="nested"`` the lows descend, from narrow to wide.
    """
    of_low, edges = _bins(low, groups)
    of_high, high_edges = _bins(high, groups)
    lows = [low[of_low == g].min(initial=np.inf) for g in range(groups)]
    highs = [high[of_high == g].max(initial=-np.inf) for g in range(groups)]
    ascending = np.where(np.isfinite(lows), lows, edges[1:])
    return (
        ascending if pairing == "ascending" else ascending[::-1],
        np.where(np.isfinite(highs), highs, high_edges[1:]),
    )


def _bins(values: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each value and the bins' edges; a value on an inner edge belongs to the bin above."""
    edges = values.min() + (values.max() - values.min()) * np.arange(groups + 1) / groups
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, groups - 1), edges


def _nested(low: np.ndarray, high: np.ndarray, groups: int) -> ChannelGroups:
    outward = np.maximum(_bins(-low, groups)[0], _bins(high, groups)[0])
    used, assignment = np.unique(outward, return_inverse=True)
    lows = np.array([low[assignment == g].min() for g in range(len(used))])
    highs = np.array([high[assignment == g].max() for g in range(len(used))])
    return ChannelGroups(assignment.astype(np.int64), lows, highs)


def _ascending(low: np.ndarray, high: np.ndarray, groups: int) -> ChannelGroups:
    lows, highs = bin_bounds(low, high, groups)
    highs = np.maximum(lows, highs)
    distance = np.abs(lows[:, None] - low) + np.abs(highs[:, None] - high)
    used, assignment = np.unique(distance.argmin(axis=0), return_inverse=True)
    return ChannelGroups(assignment.astype(np.int64), lows[used], highs[used])
