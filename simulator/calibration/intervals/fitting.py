"""Fit learned intervals to observed operands: gradient descent on each operand's own quantization error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_int, require_real
from simulator.calibration.collector import Specs
from simulator.calibration.intervals.learned import LearnedIntervals, rows_by_format
from simulator.calibration.intervals.observation import OperandSamples
from simulator.calibration.rounding_gradient import fake_quantize
from simulator.calibration.search import require_order

_WINDOW, _LIMIT = 20, 10.0
"""Iterations that divergence is judged over, and the mean loss, relative to the start, that it begins at."""


class IntervalMethod(Protocol):
    """A form of learned intervals: a frozen value, such as TDQ() or Segments.uniform(10)."""

    @property
    def default_rate(self) -> float:
        """Learning rate where none is given."""
        ...

    def start(self, samples: OperandSamples, specs: Specs, *, seed: int = 0, p: float = 2.0) -> LearnedIntervals:
        """First values."""
        ...

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        ...


@dataclass(frozen=True)
class IntervalFit:
    """Adam on ``mean |x - x_quantized|^p``, x the observed elements of some timesteps drawn for each iteration.

    Gradients are LSQ's (``rounding_gradient``). LSQ's factor 1/sqrt(N qmax) is left out: Adam's step does not depend on
    it. The rate falls to 0 as a cosine. Each operand's loss is divided by its own first value, so that one rate serves
    all; operands share no parameter, so fitting them together is fitting each alone.

    Args:
        p: order of the error, at least 1; 2, or BRECQ's 2.4.
        iterations: Adam steps.
        rate: learning rate; None for the method's own.
        timesteps: drawn for each iteration without replacement; all where fewer were observed.

    Raises:
        BadInput: an argument breaks its rule.
    """

    p: float = 2.0
    iterations: int = 400
    rate: float | None = None
    timesteps: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", require_order(self.p))
        object.__setattr__(self, "iterations", require_int("iterations", self.iterations, 1))
        object.__setattr__(self, "timesteps", require_int("timesteps", self.timesteps, 1))
        if self.rate is not None:
            object.__setattr__(self, "rate", require_real("rate", self.rate))
            if self.rate <= 0:
                raise BadInput("rate must be positive", got=self.rate, fix="use 1e-3, or None")

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"p": self.p, "iterations": self.iterations, "rate": self.rate, "timesteps": self.timesteps}


@dataclass(frozen=True)
class FittedIntervals:
    """What a fit gave.

    Attributes:
        intervals: learned, in eval mode.
        before: mean |e|^p of each operand over all observed elements at the first values, (operands, timesteps).
        after: the same of ``intervals``.
        diverged: operands whose loss was not finite, or whose mean over 20 iterations passed 10 times the start (a
            single one may: it jumps where the zero point rounds to the next code); they keep their first values.
        kept: operands whose error over all timesteps had not fallen; they keep their first values too.
        loss: of each iteration, relative to the first values, (iterations, operands).
        source: samples and fit, as plain JSON values, for ``ranges_at``.
    """

    intervals: LearnedIntervals
    before: np.ndarray
    after: np.ndarray
    diverged: np.ndarray
    kept: np.ndarray
    loss: np.ndarray
    source: dict[str, Any]


def fit_intervals(
    method: IntervalMethod,
    samples: OperandSamples,
    specs: Specs,
    *,
    fit: IntervalFit = IntervalFit(),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> FittedIntervals:
    """Learn the intervals of every observed operand.

    Args:
        method: their form.
        samples: observed operands, not by channel.
        specs: one for all, or by (site, role).
        fit: loss and optimiser.
        seed: of first weights, dropout and the timesteps drawn.
        progress: called after each iteration with (iterations done, iterations in all).

    Raises:
        BadInput: samples by channel, or of different lengths.
    """
    values, weights, times = stacked(samples)
    intervals = method.start(samples, specs, seed=seed, p=fit.p)
    first = {name: tensor.clone() for name, tensor in intervals.state_dict().items()}
    start = error_power(intervals.eval(), values, weights, times, fit.p)
    intervals.train()
    optimiser = torch.optim.Adam(intervals.parameters(), lr=fit.rate or method.default_rate)
    draw = torch.Generator().manual_seed(seed)
    diverged = torch.zeros(len(intervals.keys), dtype=torch.bool)
    losses = np.empty((fit.iterations, len(intervals.keys)))
    for iteration in range(fit.iterations):
        for group in optimiser.param_groups:
            cosine = 0.5 * (1 + math.cos(math.pi * iteration / fit.iterations))
            group["lr"] = (fit.rate or method.default_rate) * cosine
        chosen = torch.randperm(len(times), generator=draw)[: fit.timesteps].sort().values
        base = start[:, chosen].mean(dim=1)
        error = _error(intervals, values[:, chosen], weights[:, chosen], times[chosen], fit.p).mean(dim=1)
        loss = error / torch.where(base > 0, base, 1.0)
        losses[iteration] = loss.detach().numpy()
        recent = torch.from_numpy(losses[max(0, iteration + 1 - _WINDOW) : iteration + 1].mean(axis=0))
        diverged |= ~(recent <= _LIMIT)  # NaN too
        optimiser.zero_grad()
        torch.where(diverged, 0.0, loss).sum().backward()
        optimiser.step()
        _restore(intervals, first, diverged, optimiser)
        if progress is not None:
            progress(iteration + 1, fit.iterations)
    intervals.eval()
    worse = ~(error_power(intervals, values, weights, times, fit.p).mean(dim=1) < start.mean(dim=1)) & ~diverged
    _restore(intervals, first, diverged | worse, None)
    after = error_power(intervals, values, weights, times, fit.p)
    source = {**samples.source, "interval_fit": fit.config(), "fit_seed": seed}
    return FittedIntervals(
        intervals, start.numpy(), after.numpy(), diverged.numpy(), worse.numpy(), losses, source
    )  # fmt: skip


@torch.no_grad()
def error_power(intervals: LearnedIntervals, values: Tensor, weights: Tensor, timestep: Tensor, p: float) -> Tensor:
    """Weighted ``mean |x - x_quantized|^p`` of values (operands, timesteps, elements): (operands, timesteps)."""
    parts = [slice(at, at + 8) for at in range(0, len(timestep), 8)]
    return torch.cat([_error(intervals, values[:, i], weights[:, i], timestep[i], p) for i in parts], dim=1)


def quantized(intervals: LearnedIntervals, values: Tensor, timestep: Tensor) -> Tensor:
    """Values (operands, timesteps, elements) through their intervals, with gradients."""
    scales, zeros = intervals.scales(timestep)[..., None], intervals.zero_points(timestep)[..., None]
    formats = rows_by_format(intervals.specs)
    if len(formats) == 1:
        return fake_quantize(values, scales, zeros, *next(iter(formats)))
    parts = [fake_quantize(values[rows], scales[rows], zeros[rows], *ends) for ends, rows in formats.items()]
    order = torch.tensor([row for rows in formats.values() for row in rows]).argsort()
    return torch.cat(parts)[order]


def _error(intervals: LearnedIntervals, values: Tensor, weights: Tensor, timestep: Tensor, p: float) -> Tensor:
    error = values - quantized(intervals, values, timestep)
    power = error * error if p == 2 else error.abs() ** p
    return (power * weights).mean(dim=-1, dtype=torch.float64)


def _restore(
    intervals: LearnedIntervals, first: dict[str, Tensor], rows: Tensor, optimiser: torch.optim.Adam | None
) -> None:
    """Put operands back to their first values, and their moments to 0."""
    if not bool(rows.any()):
        return
    with torch.no_grad():
        for name, parameter in intervals.named_parameters():
            parameter[rows] = first[name][rows]
            for moment in ("exp_avg", "exp_avg_sq") if optimiser is not None else ():
                optimiser.state[parameter][moment][rows] = 0.0  # type: ignore[union-attr]  # the loop is empty without one


def stacked(samples: OperandSamples) -> tuple[Tensor, Tensor, Tensor]:
    """Values and weights (operands, T, elements), and timesteps (T,).

    Raises:
        BadInput: samples by channel, or of different lengths.
    """
    arrays = list(samples.values.values())
    if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 2:
        raise BadInput(
            "intervals are fitted to samples (timesteps, elements) of one size", got=sorted({a.shape for a in arrays}),
            fix="observe with by_channel=False",
        )  # fmt: skip
    weights = np.stack([samples.weight(key) for key in samples.values])
    return torch.from_numpy(np.stack(arrays)), torch.from_numpy(weights), torch.from_numpy(samples.timesteps)
