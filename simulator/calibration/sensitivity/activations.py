"""How the spread of each operand varies over samples and timesteps: what temporal dependence is measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samplers.errors import BadInput
from samplers.validation import require_choice
from simulator.calibration.intervals.learned import OperandKey
from simulator.calibration.intervals.observation import one_timestep_batches
from simulator.instrument.contractions import PROBABILITY, Contraction
from simulator.instrument.forward import forward
from simulator.instrument.sites import SiteKey, watching
from simulator.models.conditioning import Conditioning, call_for
from simulator.models.registry import Model

MEASURES = ("std", "range", "max")


@dataclass(frozen=True)
class ActivationStatistics:
    """Moments and extremes of each operand at each point, a point being one sample at one timestep.

    Under guidance a point holds both passes. An operand without a part for each sample, such as one that all share, has
    the same numbers at all points of a batch.

    Attributes:
        keys: (site, role) of each row; softmax outputs are left out.
        timestep: float64 (points,).
        sample: int64 (points,), place of the sample in the data.
        mean: float64 (keys, points).
        variance: likewise.
        low: likewise, smallest value.
        high: likewise, largest value.
    """

    keys: tuple[OperandKey, ...]
    timestep: np.ndarray
    sample: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def variation(self, measure: str) -> np.ndarray:
        """Standard deviation, ``high - low`` or largest magnitude, (keys, points).

        Raises:
            BadInput: another measure.
        """
        require_choice("measure", measure, MEASURES)
        if measure == "std":
            return np.sqrt(self.variance)
        return self.high - self.low if measure == "range" else np.maximum(np.abs(self.low), np.abs(self.high))

    def step_means(self, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """Timesteps (T,), ascending, and the measure's mean over the points of each, (keys, T)."""
        times, place = np.unique(self.timestep, return_inverse=True)
        values = self.variation(measure)
        sums = np.stack([np.bincount(place, weights=row, minlength=len(times)) for row in values])
        return times, sums / np.bincount(place)


@torch.no_grad()
def activation_statistics(
    model: Model,
    x: Tensor,
    timestep: Tensor,
    *,
    batch_size: int = 64,
    conditioning: Conditioning | None = None,
    samples: Sequence[int] | None = None,
    allow_float: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> ActivationStatistics:
    """Statistics of every operand on given data, in full precision.

    Args:
        model: the network.
        x: float32 (n, *sample_shape), such as a calibration set's.
        timestep: (n,), of each.
        batch_size: samples per forward pass; passes hold one timestep.
        conditioning: what samples are conditioned on, and guidance.
        samples: index of each sample for its conditions; 0 to n - 1 by default.
        allow_float: patterns of sites and modules that stay in float.
        progress: called after each pass with (passes done, passes in all).

    Raises:
        BadInput: data of another form, or an operand that is not finite.
    """
    groups = list(one_timestep_batches(x, timestep, batch_size))
    indices = np.arange(len(x)) if samples is None else np.asarray(samples)
    passes = 1 if conditioning is None else conditioning.passes
    found: dict[OperandKey, list[np.ndarray]] = {}
    with watching(model.module):
        for done, (_, rows) in enumerate(groups):
            handler = _Moments(len(rows), passes, found)
            call = call_for(model, conditioning, indices[rows])
            forward(model.module, handler, x[rows], timestep[rows], call=call, allow_float=allow_float)
            if progress is not None:
                progress(done + 1, len(groups))
    table = np.stack([np.concatenate(parts, axis=1) for parts in found.values()])
    if not np.isfinite(table).all():
        raise BadInput("operands must be finite", got="NaN or infinity", fix="check model and samples")
    times = np.concatenate([np.full(len(rows), time) for time, rows in groups])
    return ActivationStatistics(
        tuple(found), times, np.concatenate([rows for _, rows in groups]), *table.transpose(1, 0, 2)
    )  # fmt: skip


class _Moments:
    """Handler that computes in float and appends (4, n) statistics of each operand."""

    def __init__(self, samples: int, passes: int, found: dict[OperandKey, list[np.ndarray]]) -> None:
        self._samples, self._passes, self._found = samples, passes, found

    def __call__(self, site: SiteKey, contraction: Contraction) -> Tensor:
        for role, operand in contraction.activations().items():
            if role != PROBABILITY:
                self._found.setdefault((site, role), []).append(self._of(operand))
        return contraction.float()

    def _of(self, operand: Tensor) -> np.ndarray:
        rows, rest = divmod(operand.shape[0], self._passes * self._samples)
        if rest or not rows:
            one = operand.reshape(1, -1)
        else:  # the unconditional passes of all samples come first
            parts = operand.reshape(self._passes, self._samples, -1)
            one = parts.transpose(0, 1).reshape(self._samples, -1)
        wide = one.double()
        variance, mean = torch.var_mean(wide, dim=1, correction=0)
        low, high = torch.aminmax(one, dim=1)
        found = torch.stack([mean, variance, low.double(), high.double()])
        return found.expand(4, self._samples).numpy(force=True)
