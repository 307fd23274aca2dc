"""What claims say of channels: which are salient, whether two sets of them coincide, and what rounding costs each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samplers.noise import NoiseStream
from samplers.sampler import Sampler
from samplers.state import FLOAT64
from simulator.calibration.balancing.salience import Salience
from simulator.instrument.calibrated import calibrated
from simulator.instrument.contractions import Contraction, Linear
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.sites import SiteKey, watching
from simulator.reference import full_precision
from simulator.rounded_operands import Rounded, operands

SALIENT = 0.1
"""Share of the channels that count as salient: those of largest magnitude."""


def salient(magnitudes: np.ndarray) -> np.ndarray:
    """Which channels are salient, (..., channels) bool: as many in each row, one at least; of ties the first."""
    count = max(round(SALIENT * magnitudes.shape[-1]), 1)
    chosen = np.argsort(-magnitudes, axis=-1, kind="stable")[..., :count]
    found = np.zeros(magnitudes.shape, bool)
    np.put_along_axis(found, chosen, True, axis=-1)
    return found


def coincident(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share of the salient channels of ``one`` that are salient in ``other`` too: about ``SALIENT`` by chance.

    Args:
        one: magnitudes, (..., channels).
        other: magnitudes that broadcast with them.
    """
    first, second = np.broadcast_arrays(salient(one), salient(other))
    return np.asarray((first & second).sum(-1) / first.sum(-1))


def moved(first: np.ndarray, last: np.ndarray) -> float:
    """Share of salient channels that are others at the last step, beyond what other samples alone would change.

    Two halves of the samples stand for each step. Between steps every half meets every half; within a step one half
    meets the other, which is what a maximum over few samples leaves to chance.

    Args:
        first: magnitudes at the first step, (2, channels): of one half of the samples, and of the other.
        last: at the last step.
    """
    between = np.mean([1 - coincident(a, b) for a in first for b in last])
    chance = np.mean([1 - coincident(step[0], step[1]) for step in (first, last)])
    return float(between - chance)


def halves(salience: Salience, readers: tuple[str, ...], steps: int) -> np.ndarray:
    """Magnitudes of the channels that layers read, over each half of the samples: (steps, 2, channels).

    Args:
        salience: of variant "released", whose points are the rows of one batch, step by step.
        readers: paths of the layers.
        steps: of the sampler.
    """
    rows = salience.of(readers)
    rows = rows.reshape(steps, len(rows) // steps, -1)
    middle = rows.shape[1] // 2
    return np.stack([rows[:, :middle].max(1), rows[:, middle:].max(1)], axis=1)


@dataclass(frozen=True)
class ChannelErrors:
    """Input channels of a linear layer.

    Attributes:
        activations: max |X_j| over samples, tokens and steps, (channels,).
        activation_errors: mean squared error of X_j's codes.
        weight: max |W_j| over the outputs.
        weight_errors: mean squared error of W_j's codes.
    """

    activations: np.ndarray
    activation_errors: np.ndarray
    weight: np.ndarray
    weight_errors: np.ndarray


def excess_db(magnitudes: np.ndarray, errors: np.ndarray) -> float:
    """Mean squared error of the salient channels over that of the others, in dB."""
    large = salient(magnitudes)
    return float(10 * np.log10(errors[large].mean() / errors[~large].mean()))


@torch.no_grad()
def channel_errors(
    network: QuantizedModel, sampler: Sampler, layers: Sequence[str], *, samples: int, seed: int, batch_size: int,
    progress: Callable[[int, int], None],
) -> dict[str, ChannelErrors]:  # fmt: skip
    """What rounding costs each input channel of linear layers, along the full-precision trajectory.

    Args:
        network: says how operands are rounded.
        sampler: whose trajectory.
        layers: paths of the layers.
        samples: of the stream "evaluate".
        seed: of that stream.
        batch_size: samples per pass.
        progress: called after each step with (steps done, steps in all).
    """
    sums = {path: _Sums() for path in layers}

    def look(step: int, site: SiteKey, contraction: Contraction, output: Tensor) -> None:
        if site.module not in sums or not isinstance(contraction, Linear):
            return
        treatment = network.treatment(site, step)
        parameters = calibrated(treatment, site, network.ranges, step)
        sums[site.module].add(*(_of(operand) for operand in operands(contraction, treatment, parameters)))

    model, noise = network.model, NoiseStream(seed, "evaluate")
    batches, steps = range(0, samples, batch_size), len(sampler.updates)
    with watching(model.module):
        for done, first in enumerate(batches):
            members = np.arange(first, min(first + batch_size, samples))
            for point in full_precision(model, (), sampler, FLOAT64, noise, members, None, look):
                progress(done * steps + point.step + 1, len(batches) * steps)
    return {path: found.errors() for path, found in sums.items()}


def _of(operand: Rounded) -> tuple[np.ndarray, np.ndarray]:
    """Values and errors of an operand as (rows, channels)."""
    exact, error = operand.exact, operand.error
    return exact.reshape(-1, exact.shape[-1]).numpy(), error.reshape(-1, error.shape[-1]).numpy()


class _Sums:
    """One layer's magnitudes and squared errors under way."""

    def __init__(self) -> None:
        self._largest: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0
        self._rows = 0
        self._weight: tuple[np.ndarray, np.ndarray]

    def add(self, activations: tuple[np.ndarray, np.ndarray], weight: tuple[np.ndarray, np.ndarray]) -> None:
        values, errors = activations
        self._largest = np.maximum(self._largest, np.abs(values).max(0))
        self._squares = self._squares + (errors.astype(np.float64) ** 2).sum(0)
        self._rows += len(values)
        self._weight = weight

    def errors(self) -> ChannelErrors:
        values, errors = self._weight
        return ChannelErrors(
            np.asarray(self._largest, np.float64),
            np.asarray(self._squares) / self._rows,
            np.abs(values).max(0).astype(np.float64),
            (errors.astype(np.float64) ** 2).mean(0),
        )
