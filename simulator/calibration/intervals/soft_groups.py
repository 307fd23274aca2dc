"""Learned soft assignment of channels to groups: APQ-DM's differentiable group search (Wang et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.sampler import Sampler
from samplers.validation import require_choice, require_int, require_real
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.collector import Specs
from simulator.calibration.intervals.channel_groups import (
    PAIRINGS,
    ChannelGroups,
    GroupedRanges,
    bin_bounds,
    channel_bounds,
)
from simulator.calibration.intervals.learned import OperandKey, spec_of, timesteps_of
from simulator.calibration.intervals.observation import OperandSamples
from simulator.calibration.ranges import Ranges
from simulator.calibration.rounding_gradient import fake_quantize, round_through
from simulator.calibration.search import require_order
from simulator.calibration.steps import StepSets

MIXTURES = ("ranges", "outputs")


@dataclass(frozen=True)
class SoftGrouping:
    """How the assignment is learned: AdamW on ``mean |x - x_quantized|^p`` over all sets at once.

    Weights are ``softmax`` over groups of alpha (sets, groups, channels), all alpha 0.01 at first. Group bounds are
    those of ``channel_groups.bin_bounds``, paired as the released code pairs them, the lowest low with the lowest
    high, or, ``pairing="nested"``, the narrow with the narrow. ``mixture="ranges"`` quantizes with the mean of the
    groups' bounds under the weights, which is what runs at inference; ``"outputs"`` learns from the mean of the groups'
    quantized values, as the released search does, and then uses the mean of the bounds all the same.

    Args:
        groups: 8 in the paper.
        pairing: of bins of lows with bins of highs.
        mixture: what is learned from.
        p: order of the error. The released code learns from the noise prediction's error along the trajectory.
        rate: learning rate.
        weight_decay: AdamW's, the released value.
        iterations: Adam steps; released code takes 64 batches of 16 images.

    Raises:
        BadInput: an argument breaks its rule.
    """

    groups: int = 8
    pairing: str = "ascending"
    mixture: str = "ranges"
    p: float = 2.0
    rate: float = 0.05
    weight_decay: float = 0.05
    iterations: int = 64

    def __post_init__(self) -> None:
        for name in ("groups", "iterations"):
            object.__setattr__(self, name, require_int(name, getattr(self, name), 1))
        object.__setattr__(self, "p", require_order(self.p))
        require_choice("pairing", self.pairing, PAIRINGS)
        require_choice("mixture", self.mixture, MIXTURES)
        for name in ("rate", "weight_decay"):
            object.__setattr__(self, name, require_real(name, getattr(self, name)))
        if self.rate <= 0 or self.weight_decay < 0:
            raise BadInput("rate must be positive and weight_decay at least 0", got=self, fix="use 0.05 and 0.05")

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "groups": self.groups, "pairing": self.pairing, "mixture": self.mixture, "p": self.p, "rate": self.rate,
            "weight_decay": self.weight_decay, "iterations": self.iterations,
        }  # fmt: skip


@dataclass(frozen=True)
class SoftGroups:
    """Weights of the channels of one operand.

    Attributes:
        weights: float64 (sets, groups, channels), summing to 1 over groups.
        low: float64 (sets, groups).
        high: float64 (sets, groups).
        before: mean |e|^p at equal weights.
        after: mean |e|^p at these.
    """

    weights: np.ndarray
    low: np.ndarray
    high: np.ndarray
    before: float
    after: float

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high of each channel, (sets, channels): the mean of the groups' bounds under the weights."""
        low, high = (np.einsum("sg,sgc->sc", bound, self.weights) for bound in (self.low, self.high))
        return low, np.maximum(low, high)

    def hard(self, index: int) -> ChannelGroups:
        """Each channel in its group of largest weight, the first of equals; groups without channels are dropped."""
        used, assignment = np.unique(self.weights[index].argmax(axis=0), return_inverse=True)
        low, high = self.low[index][used], self.high[index][used]
        return ChannelGroups(assignment.astype(np.int64), low, np.maximum(low, high))

    def entropy(self) -> np.ndarray:
        """``-sum_g w log w`` in nats, averaged over channels: (sets,), from 0 to log(groups)."""
        logs = np.log(np.where(self.weights > 0, self.weights, 1.0))
        return -(self.weights * logs).sum(axis=1).mean(axis=1)


@dataclass(frozen=True)
class SoftGroupedRanges:
    """Soft groups of every operand.

    Attributes:
        groups: by (site, role).
        shapes: of the per-channel bounds, by (site, role).
        source: as plain JSON values.
        steps: the sets.
        diverged: operands whose error was not finite, or above 10 times its start; their weights are the first ones.
    """

    groups: Mapping[OperandKey, SoftGroups]
    shapes: Mapping[OperandKey, tuple[int, ...]]
    source: Mapping[str, Any]
    steps: StepSets
    diverged: tuple[OperandKey, ...] = ()

    def ranges(self) -> Ranges:
        """One range per channel, the mean under the weights: what released code runs."""
        bounds = {}
        for key, soft in self.groups.items():
            low, high = soft.bounds()
            for index, steps in enumerate(self.steps.sets):
                shape = self.shapes[key]
                bounds[*key, steps.name] = low[index].reshape(shape), high[index].reshape(shape)
        return Ranges(bounds, {**self.source, "soft": True}, self.steps)

    def hard(self) -> GroupedRanges:
        """Every channel in its group of largest weight."""
        found = {
            (*key, steps.name): soft.hard(index)
            for key, soft in self.groups.items()
            for index, steps in enumerate(self.steps.sets)
        }
        return GroupedRanges(found, {**self.source, "soft": False}, self.steps)

    def entropy(self) -> np.ndarray:
        """Assignment entropy of each set, (sets,), summed over operands: what active calibration looks for."""
        return np.sum([soft.entropy() for soft in self.groups.values()], axis=0)


def soft_channel_groups(
    ranges: Ranges,
    samples: OperandSamples,
    sampler: Sampler,
    specs: Specs,
    *,
    fit: SoftGrouping = SoftGrouping(),
    progress: Callable[[int, int], None] | None = None,
) -> SoftGroupedRanges:
    """Learn the assignment of every operand that has both ranges and samples.

    Args:
        ranges: per channel, for step sets that name their steps (``StepSets.each``, ``grouped_steps``).
        samples: by channel, at the timesteps of those steps.
        sampler: says which timestep a step is.
        specs: of the operands, asymmetric.
        fit: how.
        progress: called after each operand with (operands done, operands in all).

    Raises:
        BadInput: ranges per tensor, samples not by channel or without a step's timestep, or sets of all steps.
    """
    rows = _rows(ranges.steps, samples, sampler)
    keys = [key for key in samples.values if any((*key, s.name) in ranges.bounds for s in ranges.steps.sets)]
    groups, shapes, diverged = {}, {}, []
    for done, key in enumerate(keys):
        bounds = [ranges.bounds[*key, s.name] for s in ranges.steps.sets]
        shapes[key] = bounds[0][0].shape
        pairs = [bin_bounds(*channel_bounds((*key, ""), pair), fit.groups, fit.pairing) for pair in bounds]
        low, high = (np.stack(side) for side in zip(*pairs, strict=True))
        array = samples.values[key]
        if array.ndim != 3 or array.shape[1] != bounds[0][0].size:
            raise BadInput(
                f"samples must be (timesteps, {bounds[0][0].size} channels, elements)",
                got=f"{array.shape} at {key[0]} {key[1]}", fix="observe with by_channel=True",
            )  # fmt: skip
        values = np.stack([np.moveaxis(array[chosen], 0, 1).reshape(array.shape[1], -1) for chosen in rows])
        weight = torch.from_numpy(np.stack([samples.weight(key)[chosen].reshape(-1) for chosen in rows])[:, None])
        groups[key] = _learn(torch.from_numpy(values), weight, low, high, spec_of(specs, key), fit)
        if not groups[key].after <= 10 * groups[key].before:
            diverged.append(key)
        if progress is not None:
            progress(done + 1, len(keys))
    source = {**samples.source, "ranges": dict(ranges.source), "soft_grouping": fit.config()}
    return SoftGroupedRanges(groups, shapes, source, ranges.steps, tuple(diverged))


def _rows(steps: StepSets, samples: OperandSamples, sampler: Sampler) -> list[list[int]]:
    """Rows of the samples that each set observed: as many of each as of the smallest."""
    times = timesteps_of(sampler).tolist()
    found = []
    for s in steps.sets:
        if s.observed is None or max(s.observed) >= len(times):
            raise BadInput("every set must name steps of the sampler", got=s.config(), fix="use StepSets.each(n)")
        found.append([samples.row(times[step]) for step in s.observed])
    least = min(len(rows) for rows in found)
    return [rows[:least] for rows in found]


def _learn(
    values: Tensor, weight: Tensor, low: np.ndarray, high: np.ndarray, spec: QuantSpec, fit: SoftGrouping
) -> SoftGroups:
    """Weights of one operand; values (sets, channels, elements), their weight (sets, 1, elements)."""
    lows, highs = torch.from_numpy(low), torch.from_numpy(high)
    alpha = torch.full((*low.shape, values.shape[1]), 0.01, dtype=torch.float64, requires_grad=True)
    first = alpha.detach().clone()
    optimiser = torch.optim.AdamW([alpha], lr=fit.rate, weight_decay=fit.weight_decay)

    def error(weights: Tensor, mixture: str) -> Tensor:
        if mixture == "ranges":
            low_c, high_c = (torch.einsum("sg,sgc->sc", b, weights)[..., None] for b in (lows, highs))
            found = _through(values, low_c, high_c, spec)
        else:
            found = torch.zeros_like(values)
            for g in range(fit.groups):
                part = _through(values, lows[:, g, None, None], highs[:, g, None, None], spec)
                found = found + part * weights[:, g, :, None].float()
        return ((values - found).abs() ** fit.p * weight).mean(dtype=torch.float64)

    with torch.no_grad():
        before = float(error(torch.softmax(first, dim=1), "ranges"))
    for _ in range(fit.iterations):
        optimiser.zero_grad()
        loss = error(torch.softmax(alpha, dim=1), fit.mixture)
        if not bool(torch.isfinite(loss)):
            break
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        weights = torch.softmax(alpha, dim=1)
        after = float(error(weights, "ranges"))
        if not after <= 10 * before:
            weights = torch.softmax(first, dim=1)
    return SoftGroups(weights.numpy(), low, high, before, after)


def _through(values: Tensor, low: Tensor, high: Tensor, spec: QuantSpec) -> Tensor:
    """Values quantized to bounds widened to hold 0, as ``parameters_from_range`` does, with gradients to the bounds."""
    qmin, qmax = spec.format.qmin, spec.format.qmax
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    width = (high - low) / (qmax - qmin)
    scale = torch.where(width > torch.finfo(torch.float32).tiny, width, 1.0)
    zero = round_through(qmin - low / scale)
    return fake_quantize(values, scale.float(), zero.float(), qmin, qmax)
