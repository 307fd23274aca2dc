"""Learned quantizers of one operand: what they hold, what they give while training, and what the engine gets."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from simulator.arithmetic.granularity import Granularity
from simulator.arithmetic.quantizer import QuantSpec
from simulator.calibration.rounding_gradient import fake_quantize
from simulator.calibration.training.scales import DrawingScale, TimeScale
from simulator.calibration.training.starts import weight_start
from simulator.calibration.training.surrogates import clipped_step, learned_step, noisy_step


class ActivationQuantizer(nn.Module, ABC):
    """Quantizer of a run-time operand, one scale per tensor and timestep.

    In eval mode its values are the engine's; in training mode they may be others.

    Args:
        spec: of the codes.
    """

    def __init__(self, spec: QuantSpec) -> None:
        super().__init__()
        self.spec, self.qmin, self.qmax = spec, spec.format.qmin, spec.format.qmax

    @abstractmethod
    def parameters_at(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, () or (n,), and zero point (), not yet rounded, for the training indices ``timestep`` (n,)."""

    @abstractmethod
    def surrogate(self, x: Tensor, scale: Tensor, zero: Tensor, features: int, noise: torch.Generator | None) -> Tensor:
        """What the operand is replaced by in training mode; ``scale`` broadcasts against x."""

    def forward(self, x: Tensor, timestep: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Real values of the operand ``x``, whose first axis holds k rows for each of the timesteps (n,) in order.

        Raises:
            BadInput: a scale that follows the timestep, and another number of rows.
        """
        scale, zero = self.parameters_at(timestep)
        samples = len(timestep)
        rows, rest = divmod(x.shape[0], samples)
        if scale.ndim:
            if rest:
                raise BadInput(
                    "a scale that follows the timestep needs samples on the first axis of its operand",
                    got=f"{x.shape[0]} rows for {samples} samples", fix="use one scale, or leave the site in float",
                )  # fmt: skip
            scale = scale.repeat_interleave(rows).reshape(-1, *(1,) * (x.ndim - 1))
        if self.training:
            return self.surrogate(x, scale, zero, x.numel() if rest else x.numel() // samples, noise)
        return fake_quantize(x, scale, zero, self.qmin, self.qmax)

    def draw_from(self, generator: torch.Generator) -> None:
        """Before a pass in training mode: what is random in the scales takes its draws from ``generator``."""

    def penalty(self) -> Tensor | None:
        """What is added to the loss."""
        return None

    @torch.no_grad()
    def project(self) -> None:
        """Bring the parameters back to where they may lie, after a step of the optimizer."""


class StepQuantizer(ActivationQuantizer):
    """LSQ: a learned scale, and a learned zero point inside the codes, rounded straight through.

    The zero point is held as its place in the range of codes, so that one learning rate serves every width.
    """

    def __init__(self, spec: QuantSpec, scales: TimeScale, zero_point: int) -> None:
        super().__init__(spec)
        self.scales = scales
        self.place: nn.Parameter | None = None
        if not spec.symmetric:
            self.place = nn.Parameter(torch.tensor((zero_point - self.qmin) / (self.qmax - self.qmin)))

    def parameters_at(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Scale by its rule; the zero point at its place."""
        zero = torch.zeros(()) if self.place is None else self.place * (self.qmax - self.qmin) + self.qmin
        return self.scales.scale(timestep), zero

    def surrogate(self, x: Tensor, scale: Tensor, zero: Tensor, features: int, noise: torch.Generator | None) -> Tensor:
        """LSQ's."""
        return learned_step(x, scale, zero, self.qmin, self.qmax, features)

    def draw_from(self, generator: torch.Generator) -> None:
        """Hand it to scales that draw."""
        if isinstance(self.scales, DrawingScale):
            self.scales.draw_from(generator)

    @torch.no_grad()
    def project(self) -> None:
        """Keep the zero point among the codes."""
        if self.place is not None:
            self.place.clamp_(0.0, 1.0)


class NoisyQuantizer(StepQuantizer):
    """NIPQ: noise in place of rounding while training."""

    def surrogate(self, x: Tensor, scale: Tensor, zero: Tensor, features: int, noise: torch.Generator | None) -> Tensor:
        """Clipped, with noise."""
        return noisy_step(x, scale, zero, self.qmin, self.qmax, features, uniform(x, noise))


class ClippingQuantizer(ActivationQuantizer):
    """PACT: learned bounds, from which scale and zero point follow.

    Unsigned codes: scale (above + below) / (2^b - 1), zero point round(below / scale). Symmetric ones: above / Q_p.

    Args:
        spec: of the codes.
        above: first upper bound, positive.
        below: first lower bound's magnitude; 0 keeps it there, None ties it to ``above``.
        decay: factor of the bounds' squares in the penalty.
    """

    start: Tensor

    def __init__(self, spec: QuantSpec, above: float, below: float | None, decay: float) -> None:
        super().__init__(spec)
        self._tied, self._unsigned, self._decay = below is None, below == 0.0, decay
        own = [above] if self._tied or self._unsigned else [above, below]
        self.register_buffer("start", torch.tensor(own, dtype=torch.float32))
        self.log = nn.Parameter(torch.zeros(len(own)))

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Magnitude of the lower bound, and the upper one."""
        bounds = self.start * torch.exp(self.log)
        return torch.zeros(()) if self._unsigned else bounds[-1], bounds[0]

    def parameters_at(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """What follows from the bounds."""
        below, above = self.bounds()
        if self.spec.symmetric:
            return above / self.qmax, torch.zeros(())
        scale = (below + above) / (self.qmax - self.qmin)
        return scale, torch.clamp(torch.round(below / scale) + self.qmin, self.qmin, self.qmax)

    def surrogate(self, x: Tensor, scale: Tensor, zero: Tensor, features: int, noise: torch.Generator | None) -> Tensor:
        """PACT's."""
        return clipped_step(x, *self.bounds(), scale, zero, self.qmin, self.qmax)

    def penalty(self) -> Tensor:
        """L2 on the bounds."""
        return self._decay * (self.start * torch.exp(self.log)).square().sum()


class WeightQuantizer(nn.Module):
    """Symmetric learned scales of a weight, output channels on its first axis.

    Args:
        weight: float32, as the network has it.
        spec: of the codes.
        granularity: which weights share a scale.
        noisy: whether noise stands for rounding while training.
    """

    start: Tensor

    def __init__(self, weight: np.ndarray, spec: QuantSpec, granularity: Granularity, *, noisy: bool = False) -> None:
        super().__init__()
        self.spec, self._codes, self._noisy = spec, (spec.format.qmin, spec.format.qmax), noisy
        self._granularity, self._shape = granularity, weight.shape
        self.register_buffer("start", torch.from_numpy(weight_start(weight, granularity, spec)))
        self.log = nn.Parameter(torch.zeros_like(self.start))
        self._place: Tensor | None = None
        if not all(n in (1, m) for n, m in zip(self.start.shape, weight.shape, strict=True)):  # groups
            scales = np.arange(self.start.numel()).reshape(self.start.shape)
            self._place = torch.from_numpy(np.ascontiguousarray(granularity.expand(scales, weight.shape)))

    def scale(self) -> Tensor:
        """Float32, in the granularity's parameter shape."""
        return self.start * torch.exp(self.log)

    def forward(self, weight: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Real values of the weight."""
        scale, zero = self.scale(), torch.zeros(())
        features = weight.numel() // scale.numel()
        if self._place is not None:
            scale = scale.reshape(-1)[self._place]
        if not self.training:
            return fake_quantize(weight, scale, zero, *self._codes)
        if self._noisy:
            return noisy_step(weight, scale, zero, *self._codes, features, uniform(weight, noise))
        return learned_step(weight, scale, zero, *self._codes, features)

    @torch.no_grad()
    def shared_by(self, granularity: Granularity) -> np.ndarray:
        """The scales in the parameter shape of a granularity that is no coarser than their own."""
        whole = self._granularity.expand(self.scale().numpy(), self._shape)
        return np.asarray(granularity.reduce(whole, np.maximum))


def uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Noise in [-1/2, 1/2) of a tensor's shape."""
    return torch.rand(like.shape, generator=generator) - 0.5
