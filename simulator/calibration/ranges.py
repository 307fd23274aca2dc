"""Bounds of operands: what calibration finds and a quantized network uses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from samplers.errors import BadInput
from simulator.calibration.steps import ALL_STEPS, StepSets
from simulator.instrument.sites import SiteKey

Bounds = tuple[np.ndarray, np.ndarray]
"""Low and high: float64 arrays of one shape."""

OUTPUT = "output"
"""Role of a contraction's float result, observed only where asked for."""

WEIGHT = "weight"
"""Role of a weight whose bounds are given instead of taken from the weight itself."""

EVERY_STEP = ALL_STEPS.sets[0].name
"""Name under which bounds of weights stand, whatever the step sets are: weights do not change with the step."""

DIGEST = "weight_bounds"
"""Entry of ``source`` that stands for the bounds of weights; made here."""


@dataclass(frozen=True)
class Ranges:
    """Low and high bound of each operand, for each set of steps.

    Roles are those of the run-time operands (``contraction.activations()``: input, query, key, probability, value,
    left, right), "output" for a contraction's float result where it was observed, and "weight" for a weight whose
    bounds are given; a weight without bounds is quantized over its own extremes.

    Attributes:
        bounds: (site, role, name of the step set) -> (low, high), float64. Per tensor both have shape (); per channel
            or group of channels the granularity's parameter shape for the operand: its rank, length 1 on all axes but
            the channel axis. Of a weight: the parameter shape of its spec for the layout with output channels on axis
            0, (outputs, inputs of one output, spatial...), under ``EVERY_STEP``. A grouped convolution's outputs lie
            group after group, as in torch; so do a transposed one's, whose torch layout is another
            (``simulator.instrument.weight_layout``).
        source: how they were found, as plain JSON values: part of the key of every run that uses them. Where there are
            bounds of weights, "weight_bounds" holds their digest (SHA-256), written here whatever stood there.
        steps: the sets.
        groups: for operands whose channels share bounds in groups, the group of each channel: integers (channels,), or
            (heads, channels) for query, key and value; the bounds are then one for each group, in any shape. Bounds
            that are not per tensor and have no entry here are one for each channel.

    Raises:
        BadInput: bounds of other types or shapes, that are not finite, or with low above high, or of unknown sets;
            bounds of a weight for some steps; groups of no bounds, or not numbered 0, 1, ... as often as there are
            bounds.
    """

    bounds: Mapping[tuple[SiteKey, str, str], Bounds]
    source: Mapping[str, Any]
    steps: StepSets = ALL_STEPS
    groups: Mapping[tuple[SiteKey, str, str], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = {s.name for s in self.steps.sets}
        for (site, role, name), (low, high) in self.bounds.items():
            if role == WEIGHT and name != EVERY_STEP:
                raise BadInput(
                    "weights do not change with the step",
                    got=f"bounds for {name!r} at {site} {role}",
                    fix=f"give one range for all steps, under {EVERY_STEP!r}",
                )
            if role != WEIGHT and name not in names:
                raise BadInput("bounds must belong to a step set", got=f"{name!r} at {site} {role}", fix="add the set")
            if not all(isinstance(b, np.ndarray) and b.dtype == np.float64 for b in (low, high)) or not (
                low.shape == high.shape and np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()
            ):
                raise BadInput(
                    "bounds must be finite float64 arrays of one shape with low <= high",
                    got=f"{low}, {high} at {site} {role}",
                    fix="pass such arrays",
                )
        rest = {key: value for key, value in self.source.items() if key != DIGEST}
        if self.weights or len(rest) != len(self.source):
            digest = {DIGEST: _digest(self.weights)} if self.weights else {}
            object.__setattr__(self, "source", {**rest, **digest})
        for key, group in self.groups.items():
            bounds = self.bounds.get(key, (np.empty(0), None))[0]
            whole = isinstance(group, np.ndarray) and group.dtype.kind in "iu" and group.ndim in (1, 2)
            if not whole or not np.array_equal(np.unique(group), np.arange(bounds.size)):
                raise BadInput(
                    "groups must be integers that number every bound of their operand",
                    got=f"{np.unique(group)} for {bounds.size} bounds at {key[0]} {key[1]}",
                    fix="number the groups 0, 1, ... and drop empty ones",
                )

    @property
    def weights(self) -> dict[SiteKey, Bounds]:
        """The given bounds of weights."""
        return {site: found for (site, role, _), found in self.bounds.items() if role == WEIGHT}

    def with_weights(self, weights: Mapping[SiteKey, Bounds], source: Mapping[str, Any] | None = None) -> Ranges:
        """These, and bounds of weights; those of a site that has some are replaced.

        Args:
            weights: by site, as ``weight_ranges`` gives them.
            source: how they were found, as plain JSON values, kept under "weights"; the digest enters in any case.

        Raises:
            BadInput: as the class.
        """
        given = {(site, WEIGHT, EVERY_STEP): found for site, found in weights.items()}
        told = {} if source is None else {"weights": dict(source)}
        return replace(self, bounds={**self.bounds, **given}, source={**self.source, **told})

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


def _digest(weights: Mapping[SiteKey, Bounds]) -> str:
    """SHA-256 of sites, shapes and float64 bounds."""
    found = hashlib.sha256()
    for site, bounds in sorted(weights.items(), key=lambda item: str(item[0])):
        found.update(f"{site} {bounds[0].shape}\n".encode())
        for bound in bounds:
            found.update(np.ascontiguousarray(bound, "<f8").tobytes())
    return found.hexdigest()
