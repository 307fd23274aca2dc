"""Bounds of operands: what calibration finds and a quantized network uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samplers.errors import BadInput
from simulator.calibration.steps import ALL_STEPS, StepSets
from simulator.instrument.sites import SiteKey

Bounds = tuple[np.ndarray, np.ndarray]
"""Low and high: float64 arrays of one shape."""

OUTPUT = "output"
"""Role of a contraction's float result, observed only where asked for."""


@dataclass(frozen=True)
class Ranges:
    """Low and high bound of each operand, for each set of steps.

    Roles are those of the run-time operands (``contraction.activations()``: input, query, key, probability, value,
    left, right), and "output" for a contraction's float result where it was observed.

    Attributes:
        bounds: (site, role, name of the step set) -> (low, high), float64. Per tensor both have shape (); per channel
            or group of channels the granularity's parameter shape for the operand: its rank, length 1 on all axes but
            the channel axis.
        source: how they were found, as plain JSON values: part of the key of every run that uses them.
        steps: the sets.
        groups: for operands whose channels share bounds in groups, the group of each channel: integers (channels,), or
            (heads, channels) for query, key and value; the bounds are then one for each group, in any shape. Bounds
            that are not per tensor and have no entry here are one for each channel.

    Raises:
        BadInput: bounds of other types or shapes, that are not finite, or with low above high, or of unknown sets;
            groups of no bounds, or not numbered 0, 1, ... as often as there are bounds.
    """

    bounds: Mapping[tuple[SiteKey, str, str], Bounds]
    source: Mapping[str, Any]
    steps: StepSets = ALL_STEPS
    groups: Mapping[tuple[SiteKey, str, str], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = {s.name for s in self.steps.sets}
        for (site, role, name), (low, high) in self.bounds.items():
            if name not in names:
                raise BadInput("bounds must belong to a step set", got=f"{name!r} at {site} {role}", fix="add the set")
            if not all(isinstance(b, np.ndarray) and b.dtype == np.float64 for b in (low, high)) or not (
                low.shape == high.shape and np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()
            ):
                raise BadInput(
                    "bounds must be finite float64 arrays of one shape with low <= high",
                    got=f"{low}, {high} at {site} {role}",
                    fix="pass such arrays",
                )
        for key, group in self.groups.items():
            bounds = self.bounds.get(key, (np.empty(0), None))[0]
            whole = isinstance(group, np.ndarray) and group.dtype.kind in "iu" and group.ndim in (1, 2)
            if not whole or not np.array_equal(np.unique(group), np.arange(bounds.size)):
                raise BadInput(
                    "groups must be integers that number every bound of their operand",
                    got=f"{np.unique(group)} for {bounds.size} bounds at {key[0]} {key[1]}",
                    fix="number the groups 0, 1, ... and drop empty ones",
                )

    def of(self, site: SiteKey, role: str, step: int | None = None) -> Bounds:
        """(low, high) of one operand at ``step`` (loop index), for ``parameters_from_range``.

        Without a step the ranges must serve every step.

        Raises:
            BadInput: the operand was not calibrated, or the step lies outside all sets.
        """
        name = self.steps.serving(step)
        try:
            return self.bounds[site, role, name]
        except KeyError:
            raise BadInput(
                "every operand needs a calibrated range", got=f"none for {site} {role}", fix="calibrate with this model"
            ) from None

    def grouping(self, site: SiteKey, role: str, step: int | None = None) -> np.ndarray | None:
        """The group of each channel of one operand, None where bounds are per tensor or per channel.

        Raises:
            BadInput: the step lies outside all sets.
        """
        return self.groups.get((site, role, self.steps.serving(step)))
