"""What every learned interval is to its users: a scale and a zero point per operand and timestep, with gradients.

All operands live in one module, stacked along the first axis of each parameter, so that a pass over a network costs a
few batched products instead of a few hundred small ones. Rows share nothing: what is learned of one operand does not
depend on which others are there.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.sampler import Sampler
from simulator.arithmetic.quantizer import QuantSpec
from simulator.arithmetic.scale_formats import Float32Scale
from simulator.calibration.collector import Specs
from simulator.calibration.intervals.start import Start
from simulator.instrument.sites import SiteKey

OperandKey = tuple[SiteKey, str]
"""Site and role."""

_EVERY = slice(None)


class LearnedIntervals(nn.Module, ABC):
    """Scales s(t) and zero points of operands.

    Zero point: one real number per operand, learned as a share of the code range (so one learning rate serves all
    widths) and held inside the format by a clamp whose gradient is 1; it is rounded where it is used. Fixed where the
    start says so; a start with a fixed low end gives ``-low / s(t)`` instead.

    Args:
        starts: where each operand begins; the order is that of the rows.
        specs: asymmetric ones, of float32 scales.

    Attributes:
        keys: (site, role) of each row.
        specs: spec of each row.
    """

    offset: Tensor
    learned: Tensor
    low: Tensor
    codes: Tensor

    def __init__(self, starts: Mapping[OperandKey, Start], specs: Specs) -> None:
        super().__init__()
        if not starts:
            raise BadInput("intervals need an operand at least", got="none", fix="observe the operands of a model")
        self.keys: tuple[OperandKey, ...] = tuple(starts)
        self.specs: tuple[QuantSpec, ...] = tuple(spec_of(specs, key) for key in self.keys)
        self._rows = {key: row for row, key in enumerate(self.keys)}
        ends = [(spec.format.qmin, spec.format.qmax) for spec in self.specs]
        values = list(starts.values())
        self.register_buffer("codes", torch.tensor(ends, dtype=torch.float64))
        share = [(s.zero_point - low) / (high - low) for s, (low, high) in zip(values, ends, strict=True)]
        self.offset = nn.Parameter(torch.tensor(share, dtype=torch.float64))
        self.register_buffer("learned", torch.tensor([s.learned for s in values]))
        lows = [float("nan") if s.low is None else s.low for s in values]
        self.register_buffer("low", torch.tensor(lows, dtype=torch.float64))

    def scales(self, timestep: Tensor, rows: slice = _EVERY) -> Tensor:
        """Scales (rows, n), float32 and positive, at timesteps (n,)."""
        return softplus(self.before_softplus(timestep, rows)).to(torch.float32)

    @abstractmethod
    def before_softplus(self, timestep: Tensor, rows: slice) -> Tensor:
        """What softplus turns into scales: (rows, n), float64."""

    def zero_points(self, timestep: Tensor, rows: slice = _EVERY) -> Tensor:
        """Zero points (rows, n), float32, real and inside the format; ``fake_quantize`` rounds them."""
        qmin, qmax = self.codes[rows, 0], self.codes[rows, 1]
        share = self.offset[rows]
        free = qmin + torch.where(self.learned[rows], share, share.detach()) * (qmax - qmin)
        zero = free[:, None].expand(-1, len(timestep))
        low = self.low[rows]
        if not bool(low.isnan().all()):
            anchored = qmin[:, None] - low[:, None] / self.scales(timestep, rows).detach()
            zero = torch.where(low.isnan()[:, None], zero, anchored)
        inside = torch.minimum(torch.maximum(zero, qmin[:, None]), qmax[:, None])
        return (zero + (inside - zero).detach()).to(torch.float32)

    def at(self, timestep: Tensor) -> dict[OperandKey, tuple[Tensor, Tensor]]:
        """Scale and zero point (n,) of every operand at timesteps (n,), by one evaluation for all."""
        scales, zeros = self.scales(timestep), self.zero_points(timestep)
        return {key: (scales[row], zeros[row]) for key, row in self._rows.items()}

    def operand(self, site: SiteKey, role: str, sampler: Sampler) -> OperandIntervals:
        """One operand's intervals by the steps of a sampler.

        Raises:
            BadInput: the operand has none.
        """
        if (site, role) not in self._rows:
            raise BadInput("an operand must be among those of the intervals", got=f"{site} {role}", fix="start with it")
        return OperandIntervals(self, self._rows[site, role], timesteps_of(sampler))

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain JSON values, with a digest of what was learned."""

    def digest(self) -> str:
        """SHA-256 over parameters and buffers."""
        found = hashlib.sha256(" ".join(f"{site} {role}" for site, role in self.keys).encode())
        for name, tensor in self.state_dict().items():
            found.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
        return found.hexdigest()


@dataclass(frozen=True)
class OperandIntervals:
    """Scale and zero point of one operand by loop index, with gradients to what is learned.

    Args:
        intervals: of all operands.
        row: of this one.
        timesteps: training timestep of each step of the sampler, (steps,).
    """

    intervals: LearnedIntervals
    row: int
    timesteps: Tensor

    def scale(self, step: int | Tensor) -> Tensor:
        """Float32 scale: () for a step, (n,) for steps (n,)."""
        return self._one(self.intervals.scales, step)

    def zero_point(self, step: int | Tensor) -> Tensor:
        """Float32 zero point, real and inside the format: () for a step, (n,) for steps (n,)."""
        return self._one(self.intervals.zero_points, step)

    def _one(self, evaluate: Any, step: int | Tensor) -> Tensor:
        steps = torch.as_tensor(step)
        found: Tensor = evaluate(self.timesteps[steps.reshape(-1)], slice(self.row, self.row + 1))[0]
        return found.reshape(steps.shape)


def along_samples(parameter: Tensor, operand: Tensor) -> Tensor:
    """A parameter per sample, (n,), shaped to broadcast against an operand whose first axis holds the n samples.

    Raises:
        BadInput: another first axis.
    """
    if not operand.ndim or len(operand) != len(parameter):
        raise BadInput(
            f"an operand must have one row for each of the {len(parameter)} samples", got=tuple(operand.shape),
            fix="give batches of one timestep, and one scale",
        )  # fmt: skip
    return parameter.reshape(-1, *[1] * (operand.ndim - 1))


def timesteps_of(sampler: Sampler) -> Tensor:
    """Training timestep of each step, (steps,) float64."""
    return torch.tensor([float(update.timestep) for update in sampler.updates], dtype=torch.float64)


def spec_of(specs: Specs, key: OperandKey) -> QuantSpec:
    """The spec of an operand.

    Raises:
        BadInput: none, a symmetric one, or one whose scales are not float32.
    """
    spec = specs if isinstance(specs, QuantSpec) else specs.get(key)
    if spec is None:
        raise BadInput("every operand needs a spec", got=f"none for {key[0]} {key[1]}", fix="add it to specs")
    if spec.symmetric or spec.scale_format != Float32Scale():
        raise BadInput(
            "learned intervals are asymmetric, with float32 scales",
            got=f"symmetric={spec.symmetric}, {spec.scale_format} at {key[0]} {key[1]}",
            fix="use a static scheme; a symmetric interval is one with a fixed zero point",
        )
    return spec


def rows_by_format(specs: Sequence[QuantSpec]) -> dict[tuple[int, int], list[int]]:
    """Rows of each pair (qmin, qmax)."""
    found: dict[tuple[int, int], list[int]] = {}
    for row, spec in enumerate(specs):
        found.setdefault((spec.format.qmin, spec.format.qmax), []).append(row)
    return found


def softplus(x: Tensor) -> Tensor:
    """``log(1 + e^x)`` in float64."""
    return F.softplus(x, threshold=40.0)  # beyond, x is it to the last bit


def inverse_softplus(s: Tensor) -> Tensor:
    """``log(e^s - 1)`` of positive float64 s, without overflow or cancellation."""
    return s + torch.log(-torch.expm1(-s))
