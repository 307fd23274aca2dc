"""What claims about timesteps share: operands observed once, intervals fitted at any bits, networks under any sampler.

TDQ's claims were published of quantization-aware training for the most part. Here intervals minimise each operand's own
error after training (``fit_intervals``), which is the same generator, code and table, fitted by the same gradients to
another loss; weights are 8-bit min-max unless a claim says otherwise, so that activations decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from samplers.sampler import Sampler
from simulator.calibration.collection.fixed import AllSteps
from simulator.calibration.collection.random_steps import RandomSteps
from simulator.calibration.collection.trajectories import collect
from simulator.calibration.intervals.fitting import FittedIntervals, IntervalFit, fit_intervals
from simulator.calibration.intervals.generator import TDQ
from simulator.calibration.intervals.observation import OperandSamples, sample_operands
from simulator.calibration.intervals.segments import Segments
from simulator.calibration.intervals.table import ranges_at
from simulator.calibration.sensitivity.activations import ActivationStatistics, activation_statistics
from simulator.instrument.quantized import QuantizedModel
from simulator.instrument.scheme import Scheme
from simulator.models.registry import Model
from simulator.paired import Arm, run_arms
from studies.claims.claim import Report, Setting
from studies.claims.measuring import subject
from studies.recipes.preparation import Preparation
from studies.recipes.stages.collected import operand_specs
from studies.recipes.task import Bits, Task


@dataclass(frozen=True)
class Observed:
    """Operands of a setting's subject in full precision, on the seed's calibration samples.

    Attributes:
        model: the subject.
        sampler: whose steps were observed.
        samples: the operands.
        seed: of the fits too.
    """

    model: Model
    sampler: Sampler
    samples: OperandSamples
    seed: int

    def fitted(self, method: TDQ | Segments, bits: str, report: Report, fit: IntervalFit) -> FittedIntervals:
        """Intervals of every operand at these bits."""
        specs = operand_specs(Preparation.of(Task(self.model, self.sampler, Bits.parse(bits)), self.seed))
        return fit_intervals(
            method, self.samples, specs, fit=fit, seed=self.seed,
            progress=lambda done, total: report(f"fitting intervals, {bits}", done, total),
        )  # fmt: skip

    def network(self, found: FittedIntervals, bits: str, sampler: Sampler | None = None) -> QuantizedModel:
        """The network that runs from the table of intervals, of this model but observed on whichever steps.

        Under the sampler that was observed here, or another one.
        """
        ranges = ranges_at(found.intervals, sampler or self.sampler, found.source)
        return QuantizedModel(self.model, Scheme.parse(bits), ranges)


def observe(setting: Setting, seed: int, report: Report, *, points: int = 20, elements: int = 512) -> Observed:
    """Observe operands at random steps of each calibration sample's trajectory.

    Args:
        setting: whose subject, steps and calibration samples.
        seed: of the trajectories and of the draws.
        report: called on the way.
        points: steps of each sample, all if there are fewer.
        elements: kept per operand and timestep.
    """
    model, sampler = subject(setting)
    found = collect(
        model, sampler, RandomSteps(min(points, setting.steps)), samples=setting.calibration_samples, seed=seed,
        batch_size=setting.batch_size, progress=lambda done, total: report("collecting", done, total),
    )  # fmt: skip
    samples = sample_operands(
        model, found.x, found.timestep, elements=elements, seed=seed, batch_size=setting.batch_size,
        samples=found.member.tolist(), progress=lambda done, total: report("observing operands", done, total),
    )  # fmt: skip
    return Observed(model, sampler, samples, seed)


def fit_of(setting: Setting, *, iterations: int = 400, timesteps: int = 16) -> IntervalFit:
    """``iterations`` of Adam; at most 20 per step of the sampler: a small setting."""
    return IntervalFit(iterations=min(iterations, 20 * setting.steps), timesteps=timesteps)


@torch.no_grad()
def scales_of(observed: Observed, found: FittedIntervals) -> np.ndarray:
    """Scale of every operand at every observed timestep, float32 (operands, T)."""
    return np.asarray(found.intervals.scales(torch.from_numpy(observed.samples.timesteps)).numpy())


def static() -> Segments:
    """One learned scale for all timesteps, S_1: the static interval that TDQ is held against."""
    return Segments.uniform(1)


def paired(
    networks: Sequence[QuantizedModel], sampler: Sampler, setting: Setting, seed: int, report: Report,
    kinds: tuple[str, ...] = ("accumulated",),
) -> tuple[xr.Dataset, ...]:  # fmt: skip
    """Paired runs of networks of one model on the same held-out samples."""
    return run_arms(
        [Arm(network) for network in networks], sampler, samples=setting.samples, seed=seed,
        batch_size=setting.batch_size, kinds=kinds, sites=False,
        progress=lambda done, total: report("sampling", done, total),
    )  # fmt: skip


def statistics(setting: Setting, seed: int, report: Report) -> ActivationStatistics:
    """Spread of every operand at every step of each of the setting's samples, in full precision."""
    model, sampler = subject(setting)
    found = collect(
        model, sampler, AllSteps(), samples=setting.samples, seed=seed, batch_size=setting.batch_size,
        progress=lambda done, total: report("collecting", done, total),
    )  # fmt: skip
    return activation_statistics(
        model, found.x, found.timestep, batch_size=setting.batch_size, samples=found.member.tolist(),
        progress=lambda done, total: report("observing operands", done, total),
    )  # fmt: skip
