"""Scales and zero points of a site from calibrated ranges."""

from __future__ import annotations

import numpy as np

from samplers.errors import BadInput
from simulator.arithmetic.quantizer import QuantSpec, parameters_from_range
from simulator.calibration.ranges import OUTPUT, Ranges
from simulator.instrument.contractions import PROBABILITY
from simulator.instrument.machines.machine import Affine
from simulator.instrument.scheme.settings import ActivationRange
from simulator.instrument.sites import SiteKey
from simulator.instrument.treatment import Treatment

_UNIT = (np.zeros(()), np.ones(()))


def calibrated(treatment: Treatment, site: SiteKey, ranges: Ranges, step: int | None = None) -> dict[str, Affine]:
    """Parameters of every operand with a static range, by role, and of a requantized output under "output".

    A softmax output covers 0 to 1, whatever was observed; in a log-sqrt2 format its scale is the upper bound, the value
    of code 0.

    Operands with bounds of groups of channels, where the treatment allows them, are left to ``operand_groups``.

    Raises:
        BadInput: an operand or output was not calibrated, or not per tensor; the step lies outside all step sets.
    """
    wanted: dict[str, QuantSpec] = {
        role: operand.spec for role, operand in treatment.operands.items() if operand.range is ActivationRange.STATIC
    }
    if treatment.output is not None:
        wanted[OUTPUT] = treatment.output
    found = {}
    for role, spec in wanted.items():
        logarithmic = role in treatment.operands and treatment.operands[role].logarithmic
        low, high = _UNIT if role == PROBABILITY and not logarithmic else ranges.of(site, role, step)
        if logarithmic:
            found[role] = Affine(_largest(high.max()), 0)
            continue
        if low.ndim and role in treatment.operands and treatment.operands[role].groups != 1:
            continue
        if low.ndim:
            raise BadInput(
                "a scheme's activations need ranges per tensor",
                got=f"shape {low.shape} at {site} {role}",
                fix="calibrate with PerTensor()",
            )
        scale, zero_point = parameters_from_range(low, high, spec)
        found[role] = Affine(np.float32(scale), int(zero_point))
    return found


def _largest(high: np.ndarray) -> np.float32:
    """delta of log-sqrt2 codes; as for a range of no width, 1 where no normal float32 is left."""
    with np.errstate(over="ignore", under="ignore"):
        delta = np.float32(high)
    return delta if delta >= np.finfo(np.float32).tiny else np.float32(1)
