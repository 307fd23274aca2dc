"""Ranges of run-time operands, from full-precision runs on samples that are used for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samplers.errors import BadInput
from simulator.instrument.contractions import Contraction
from simulator.instrument.sites import SiteKey


@dataclass(frozen=True)
class Ranges:
    """Smallest and largest value of each (site, role) operand over a calibration run.

    ``source`` says how they were found, as plain JSON values: part of the key of every run that uses them.
    """

    bounds: Mapping[tuple[SiteKey, str], tuple[float, float]]
    source: Mapping[str, Any]

    def of(self, site: SiteKey, role: str) -> tuple[float, float]:
        """Bounds of one operand.

        Raises:
            BadInput: it was not calibrated.
        """
        try:
            return self.bounds[site, role]
        except KeyError:
            raise BadInput(
                "every operand needs a calibrated range", got=f"none for {site} {role}", fix="calibrate with this model"
            ) from None


class MinMaxObserver:
    """Handler that runs each contraction in float and keeps the extremes of its operands."""

    def __init__(self) -> None:
        self._bounds: dict[tuple[SiteKey, str], tuple[float, float]] = {}

    def __call__(self, site: SiteKey, contraction: Contraction) -> Tensor:
        """Observe, then compute in float.

        Raises:
            BadInput: an operand holds NaN or infinity.
        """
        for role, operand in contraction.activations().items():
            low, high = (bound.item() for bound in torch.aminmax(operand))
            if not (abs(low) < float("inf") and abs(high) < float("inf")):  # also false for NaN
                raise BadInput(
                    "calibration data must be finite",
                    got=f"[{low}, {high}] at {site} {role}",
                    fix="check model and samples",
                )
            known = self._bounds.get((site, role), (low, high))
            self._bounds[site, role] = min(low, known[0]), max(high, known[1])
        return contraction.float()

    def ranges(self, source: Mapping[str, Any]) -> Ranges:
        """What was seen so far, with where it came from."""
        return Ranges(dict(self._bounds), dict(source))
