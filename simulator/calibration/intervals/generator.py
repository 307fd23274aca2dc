"""TDQ's interval generator: a small network from the timestep to the scale (So et al., NeurIPS 2023, section 3.3)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from samplers.errors import BadInput
from samplers.validation import require_choice, require_int, require_real
from simulator.calibration.collector import Specs
from simulator.calibration.intervals.encoding import DirectCode, FourierCode, TimeCode
from simulator.calibration.intervals.learned import LearnedIntervals, OperandKey, inverse_softplus, spec_of
from simulator.calibration.intervals.observation import OperandSamples
from simulator.calibration.intervals.start import Start, least_error, released

VARIANTS = ("exact", "paper", "released")


@dataclass(frozen=True)
class TDQ:
    """``s(t) = softplus(f(enc(t)))``, f linear layers with ReLU between them, one f per operand.

    Variants of the first values:

    - ``exact`` (default): He's normal weights, biases 0, the last layer's weights 0 and its bias
      ``log(e^s0 - 1)``, so that s(t) = s0 at every t.
    - ``paper``: the last layer has He's weights too. Its output then has mean 0 over draws of weights, not over t: the
      code's mean is 0.22, and s(t) starts anywhere within a factor of a few of s0.
    - ``released``: torch's own initial weights and biases, 20 % dropout before the last layer while fitting, s0 and a
      fixed zero point from mean and deviation (``start.released``). Its generator reads the network's time embedding;
      here it reads the same code as the others.

    Args:
        layers: linear layers, 2 at least; the paper compares 2, 4 and 8.
        width: of hidden layers.
        code: of the timestep.
        variant: of the first values.

    Raises:
        BadInput: an argument breaks its rule.
    """

    layers: int = 4
    width: int = 64
    code: TimeCode = FourierCode()  # noqa: RUF009 - an immutable value
    variant: str = "exact"

    default_rate = 1e-3

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", require_int("layers", self.layers, 2))
        object.__setattr__(self, "width", require_int("width", self.width, 1))
        require_choice("variant", self.variant, VARIANTS)
        if not isinstance(self.code, FourierCode | DirectCode):
            raise BadInput("code must be FourierCode() or DirectCode()", got=repr(self.code), fix="choose one")

    def start(self, samples: OperandSamples, specs: Specs, *, seed: int = 0, p: float = 2.0) -> GeneratedIntervals:
        """Intervals of every observed operand, at their first values.

        Args:
            samples: observed operands.
            specs: theirs.
            seed: of the weights, drawn per operand.
            p: of the error that s0 minimises.
        """
        starts = {}
        for key, values in samples.values.items():
            given = values, samples.weight(key), spec_of(specs, key)
            starts[key] = released(*given) if self.variant == "released" else least_error(*given, p)
        return GeneratedIntervals(self, starts, specs, seed=seed)

    def config(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": "tdq", "layers": self.layers, "width": self.width, "code": self.code.config(),
            "variant": self.variant,
        }  # fmt: skip


class GeneratedIntervals(LearnedIntervals):
    """Intervals that generators give; parameters are float64, so that s0 comes back to the last float32 bit.

    Args:
        method: the generators' form.
        starts: first scale and zero point of each operand.
        specs: theirs.
        seed: of the weights; an operand's depend on seed, site and role alone.
        dropout: share of the last hidden layer that is dropped in training mode; the variant's by default.
    """

    def __init__(
        self, method: TDQ, starts: Mapping[OperandKey, Start], specs: Specs, *, seed: int = 0,
        dropout: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(starts, specs)
        self.method = method
        self.dropout = (0.2 if method.variant == "released" else 0.0) if dropout is None else dropout
        if not 0 <= require_real("dropout", self.dropout) < 1:
            raise BadInput("dropout must lie in 0..1, 1 excluded", got=self.dropout, fix="use 0.2")
        sizes = [method.code.dimension, *[method.width] * (method.layers - 1), 1]
        draws = [_generator(seed, key) for key in self.keys]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            drawn = [_layer(method.variant, draw, fan_in, fan_out) for draw in draws]
            self.weights.append(nn.Parameter(torch.stack([weight for weight, _ in drawn])))
            self.biases.append(nn.Parameter(torch.stack([bias for _, bias in drawn])))
        first = torch.tensor([start.scale for start in starts.values()], dtype=torch.float64)
        self.biases[-1].data.copy_(inverse_softplus(first)[:, None, None])
        if method.variant == "exact":
            self.weights[-1].data.zero_()
        self.draw_from(torch.Generator().manual_seed(seed))

    def draw_from(self, generator: torch.Generator) -> None:
        """Take what dropout draws from ``generator`` from now on."""
        self._random = generator

    def before_softplus(self, timestep: Tensor, rows: slice) -> Tensor:
        """f(enc(t)), (rows, n)."""
        code = self.method.code(timestep)
        h = code.expand(len(self.keys[rows]), *code.shape)
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            h = torch.relu(torch.baddbmm(bias[rows], h, weight[rows]))
        if self.training and self.dropout:
            kept = torch.rand(h.shape, generator=self._random, dtype=h.dtype) >= self.dropout
            h = h * kept / (1 - self.dropout)
        # a sum over the last axis, not a product with one column: the former has the same bits for any number of t
        return (h * last[0][rows].transpose(1, 2)).sum(-1) + last[1][rows, 0]

    def config(self) -> dict[str, Any]:
        """Plain JSON values, with a digest of what was learned."""
        return {**self.method.config(), "sha256": self.digest()}


def _layer(variant: str, draw: torch.Generator, fan_in: int, fan_out: int) -> tuple[Tensor, Tensor]:
    """Weight (fan_in, fan_out) and bias (1, fan_out)."""
    if variant == "released":  # torch's nn.Linear
        bound = 1 / math.sqrt(fan_in)
        both = torch.rand(fan_in + 1, fan_out, generator=draw, dtype=torch.float64) * (2 * bound) - bound
        return both[1:], both[:1]
    weight = torch.randn(fan_in, fan_out, generator=draw, dtype=torch.float64) * math.sqrt(2 / fan_in)
    return weight, torch.zeros(1, fan_out, dtype=torch.float64)


def _generator(seed: int, key: OperandKey) -> torch.Generator:
    digest = hashlib.sha256(f"tdq {seed} {key[0]} {key[1]}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
