"""Bounds of operands: what calibration finds and a quantized network uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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

    Raises:
        BadInput: bounds of other types or shapes, that are not finite, or with low above high, or of unknown sets.
    """

    bounds: Mapping[tuple[SiteKey, str, str], Bounds]
    source: Mapping[str, Any]
    steps: StepSets = ALL_STEPS

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
