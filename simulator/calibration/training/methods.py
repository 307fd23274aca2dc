"""The methods: which quantizers are learned, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from samplers.errors import BadInput
from simulator.arithmetic.granularity import PerTensor
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.observers import Observer
from simulator.calibration.training.quantizers import (
    ActivationQuantizer,
    ClippingQuantizer,
    NoisyQuantizer,
    StepQuantizer,
    WeightQuantizer,
)
from simulator.calibration.training.scales import RangeScales, ScaleRule
from simulator.calibration.training.starts import activation_start


class WeightScales(Enum):
    """Which weights share a learned scale."""

    TENSOR = "tensor"
    """All of a layer, as TDQ's QAT has it."""
    SCHEME = "scheme"
    """Those that share one in the scheme: an output channel, or a group."""


class Signed(Enum):
    """What PACT, which is defined for values from 0 up, does with an operand that has negative ones."""

    TWO_SIDED = "two-sided"
    """A lower bound of its own."""
    SYMMETRIC = "symmetric"
    """The upper bound, negated."""


class Method(Protocol):
    """Makes the quantizers of a network; an immutable value."""

    def activation(
        self, values: np.ndarray, spec: QuantSpec, timesteps: int, generator: torch.Generator
    ) -> ActivationQuantizer:
        """Quantizer of an operand, begun on float32 ``values`` of it; ``timesteps`` is the schedule's length."""
        ...

    def weight(self, weight: np.ndarray, spec: QuantSpec) -> WeightQuantizer:
        """Quantizer of a weight, output channels on its first axis."""
        ...

    def config(self) -> dict[str, Any]:
        """Plain JSON values: equal exactly when the methods are."""
        ...


@dataclass(frozen=True)
class _Stepped:
    """Learned scales and zero points.

    Args:
        scales: of the activations.
        weights: which weights share a scale.
        start: finds the first range of each activation; None for LSQ's 2 mean|x| / sqrt(Q_p).
    """

    scales: ScaleRule = RangeScales()  # noqa: RUF009 - an immutable value
    weights: WeightScales = WeightScales.TENSOR
    start: Observer | None = None

    NAME: ClassVar[str]
    QUANTIZER: ClassVar[type[StepQuantizer]]

    def activation(
        self, values: np.ndarray, spec: QuantSpec, timesteps: int, generator: torch.Generator
    ) -> ActivationQuantizer:
        """Scale by the rule, from ``start``."""
        scale, zero = activation_start(values, spec, self.start)
        return self.QUANTIZER(spec, self.scales.build(scale, timesteps, generator), zero)

    def weight(self, weight: np.ndarray, spec: QuantSpec) -> WeightQuantizer:
        """Scales that are shared as ``weights`` says."""
        return _weight(weight, spec, self.weights, noisy=self.QUANTIZER is NoisyQuantizer)

    def config(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "method": self.NAME,
            "scales": self.scales.config(),
            "weights": self.weights.value,
            "start": "2 mean|x| / sqrt(Q_p)" if self.start is None else self.start.config(),
        }


class LSQ(_Stepped):
    """Learned step size (Esser et al. 2020), with a learned zero point.

    ``scales=RangeScales(n)`` makes it TDQ's baseline S_N; scales that follow the timestep make it TDQ.
    """

    NAME, QUANTIZER = "lsq", StepQuantizer


class NIPQ(_Stepped):
    """Noise proxy (Shin et al. 2023): learned clipping, uniform noise in training, rounding in evaluation.

    Noise stands for the rounding of weights and activations alike. The paper's learned bit widths are left out: a
    scheme states them.
    """

    NAME, QUANTIZER = "nipq", NoisyQuantizer


@dataclass(frozen=True)
class PACT:
    """Parameterized clipping (Choi et al. 2018) of activations; weights as :class:`LSQ`'s.

    Bounds begin at the operand's smallest and largest value (the paper begins at a constant for every layer).

    Args:
        decay: factor of the squared bounds in the loss.
        signed: what is done with operands that have negative values.
        weights: as :class:`LSQ`.

    Raises:
        BadInput: a decay that is negative or not finite.
    """

    decay: float = 1e-4
    signed: Signed = Signed.TWO_SIDED
    weights: WeightScales = WeightScales.TENSOR

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < float("inf"):
            raise BadInput("decay must be finite and at least 0", got=self.decay, fix="0 leaves the bounds free")

    def activation(
        self, values: np.ndarray, spec: QuantSpec, timesteps: int, generator: torch.Generator
    ) -> ActivationQuantizer:
        """Bounds that begin at the smallest and largest value."""
        low, high = float(values.min()), float(values.max())
        largest = max(-low, high) or 1.0
        if low >= 0.0 and not spec.symmetric:
            return ClippingQuantizer(spec, largest, 0.0, self.decay)
        if spec.symmetric or self.signed is Signed.SYMMETRIC:
            return ClippingQuantizer(spec, largest, None, self.decay)
        return ClippingQuantizer(spec, max(high, 1e-3 * largest), -low, self.decay)

    def weight(self, weight: np.ndarray, spec: QuantSpec) -> WeightQuantizer:
        """As LSQ's."""
        return _weight(weight, spec, self.weights)

    def config(self) -> dict[str, Any]:
        """As JSON."""
        return {"method": "pact", "decay": self.decay, "signed": self.signed.value, "weights": self.weights.value}


@dataclass(frozen=True)
class Control:
    """The same training without quantizers, whose network is quantized afterwards: what gains are quoted against."""

    def config(self) -> dict[str, Any]:
        """As JSON."""
        return {"method": "control"}


def _weight(weight: np.ndarray, spec: QuantSpec, scales: WeightScales, *, noisy: bool = False) -> WeightQuantizer:
    return WeightQuantizer(
        weight, spec, PerTensor() if scales is WeightScales.TENSOR else spec.granularity, noisy=noisy
    )
