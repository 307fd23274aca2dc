"""Entropy of the assignment of channels to groups, per step: what active collection is driven by.

APQ-DM sorts the channels of a layer's input, at each step, into G groups by their ranges: the smallest values m_c of
the channels into G bins of equal width between the smallest and the largest of them, the largest values M_c likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.special import softmax, xlogy

from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from simulator.calibration.ranges import Ranges


def assignment_entropy(probabilities: np.ndarray) -> np.ndarray:
    """APQ-DM's entropy of a soft assignment: ``-1/(G C) sum over g, c of p log p``, natural logarithm, 0 log 0 = 0.

    The sum over channels divided by C and the mean over groups, as released; so from 0 to ``log(G) / G``.

    Args:
        probabilities: (..., G, C), those of a channel over the groups add to 1.

    Returns:
        float64 (...).

    Raises:
        BadInput: entries outside 0..1, or that do not add to 1.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim < 2 or not p.size or not (p >= 0).all() or not np.allclose(p.sum(axis=-2), 1, atol=1e-5):
        raise BadInput(
            "probabilities must be (..., groups, channels), at least 0, of sum 1 over the groups",
            got=f"shape {p.shape}", fix="take a softmax over axis -2",
        )  # fmt: skip
    return -xlogy(p, p).sum(axis=-1).mean(axis=-1) / p.shape[-1]


@runtime_checkable
class Assignment(Protocol):
    """How certain the assignment of channels to groups is, from their ranges."""

    def entropy(self, low: np.ndarray, high: np.ndarray, groups: int) -> float:
        """Entropy of the channels with these smallest and largest values, float64 (C,)."""
        ...


@dataclass(frozen=True)
class Hard:
    """Each channel in the one bin that holds it: how evenly the bins are filled.

    ``1/G (H(smallest) + H(largest)) / 2`` with ``H = -sum over g of q_g log q_g``, q_g the share of channels whose
    smallest (largest) value lies in bin g; the last bin holds its upper end. From 0, all channels in one bin, to
    ``log(G) / G``. The entropy of a single channel's hard assignment is 0, so that of the bins stands for it (ours).
    """

    def entropy(self, low: np.ndarray, high: np.ndarray, groups: int) -> float:
        """Of the two histograms."""
        return sum(self._of(values, groups) for values in (low, high)) / (2 * groups)

    @staticmethod
    def _of(values: np.ndarray, groups: int) -> float:
        shares = np.bincount(bins(values, groups), minlength=groups) / len(values)
        return float(-xlogy(shares, shares).sum())


@dataclass(frozen=True)
class Soft:
    """Channel c belongs to group g with probability softmax over g of ``-d_cg / temperature``.

    ``d_cg = |m_c - m_g| / w_m + |M_c - M_g| / w_M``: distances from the group's bounds, the smallest m_c and the
    largest M_c of the channels in its bins (a bin's upper end where it is empty, as released), in widths of bins (0
    where all channels agree). The entropy is :func:`assignment_entropy`. The released code learns its assignments by
    gradients from a uniform start; a distance stands for them here (ours), and learned ones go into
    :func:`assignment_entropy`.

    Args:
        temperature: above 0.

    Raises:
        BadInput: a temperature not above 0.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", require_real("temperature", self.temperature))
        if self.temperature <= 0:
            raise BadInput("temperature must be above 0", got=self.temperature, fix="use 1")

    def entropy(self, low: np.ndarray, high: np.ndarray, groups: int) -> float:
        """Of the probabilities."""
        return float(assignment_entropy(self.probabilities(low, high, groups)))

    def probabilities(self, low: np.ndarray, high: np.ndarray, groups: int) -> np.ndarray:
        """Of each group (first axis) for each channel, float64 (groups, C)."""
        distance = _distances(low, groups, np.minimum) + _distances(high, groups, np.maximum)
        return softmax(-distance / self.temperature, axis=0)


def step_entropies(
    ranges: Ranges,
    steps: int,
    *,
    groups: int = 8,
    assignment: Assignment = Soft(),
    roles: tuple[str, ...] = ("input",),
) -> tuple[float, ...]:
    """Entropy of each step, summed over operands: what :class:`~simulator.calibration.collection.active.Active` takes.

    Args:
        ranges: observed per channel at every step (``granularity=PerChannel(), steps=StepSets.each(n)``).
        steps: number of steps.
        groups: G, at least 1.
        assignment: ``Hard()`` or ``Soft()``.
        roles: which operands count; the inputs of convolutions and linear layers by default.

    Raises:
        BadInput: an argument breaks its rule, bounds per tensor, a step without ranges, or no operand of these roles.
    """
    require_int("steps", steps, 1)
    require_int("groups", groups, 1)
    if isinstance(assignment, type) or not isinstance(assignment, Assignment):
        raise BadInput("assignment must be Hard() or Soft()", got=repr(assignment), fix="pass a value")
    operands = sorted({(site, role) for site, role, _ in ranges.bounds if role in roles})
    if not operands:
        raise BadInput("entropies need operands of the roles", got=roles, fix="name roles that were observed")
    found = []
    for step in range(steps):
        total = 0.0
        for site, role in operands:
            low, high = ranges.of(site, role, step)
            if not low.ndim:
                raise BadInput(
                    "entropies of channels need ranges per channel", got=f"one range at {site} {role}",
                    fix="calibrate with granularity=PerChannel()",
                )  # fmt: skip
            total += assignment.entropy(low.reshape(-1), high.reshape(-1), groups)
        found.append(total)
    return tuple(found)


def bins(values: np.ndarray, groups: int) -> np.ndarray:
    """Which of ``groups`` bins of equal width between the extremes holds each value, int64; the last holds its end."""
    low, width = values.min(), np.ptp(values) / groups
    if width == 0:
        return np.zeros(len(values), np.int64)
    return np.minimum(np.floor((values - low) / width), groups - 1).astype(np.int64)


def _distances(values: np.ndarray, groups: int, extreme: np.ufunc) -> np.ndarray:
    """Distance of each value (second axis) from each group's bound (first axis), in widths of bins."""
    low, width = values.min(), np.ptp(values) / groups
    if width == 0:
        return np.zeros((groups, len(values)))
    of = bins(values, groups)
    bound = low + width * np.arange(1, groups + 1)
    for group in np.unique(of):
        bound[group] = extreme.reduce(values[of == group])
    return np.abs(values[None] - bound[:, None]) / width
