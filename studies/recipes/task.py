"""What a recipe is asked to quantize: a model under a sampler, at some number of bits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from samplers.errors import BadInput
from samplers.validation import require_int
from simulator.instrument.scheme.settings import LARGEST_BITS

if TYPE_CHECKING:
    from samplers.sampler import Sampler
    from simulator.models.conditioning import Conditioning
    from simulator.models.registry import Model

_SPELLING = re.compile(r"w(?P<weights>\d+)a(?P<activations>\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Bits:
    """Bits of weights and of activations, 2 to 16.

    Raises:
        BadInput: a width that the engine does not have.
    """

    weights: int
    activations: int

    def __post_init__(self) -> None:
        for name in ("weights", "activations"):
            if require_int(f"bits of {name}", getattr(self, name), 2) > LARGEST_BITS:
                raise BadInput(
                    f"bits of {name} must be 2 to {LARGEST_BITS}", got=getattr(self, name), fix="choose a width inside"
                )

    @classmethod
    def parse(cls, text: str) -> Bits:
        """Read ``w4a8``.

        Raises:
            BadInput: another form: what else a scheme can say is the recipe's to choose.
        """
        found = _SPELLING.fullmatch(text.strip())
        if found is None:
            raise BadInput("bits are written as w4a8", got=repr(text), fix="give weights and activations")
        return cls(int(found["weights"]), int(found["activations"]))

    def __str__(self) -> str:
        return f"w{self.weights}a{self.activations}"


@dataclass(frozen=True)
class Task:
    """One problem for a recipe.

    Args:
        model: in full precision; what the result is held against.
        sampler: the sampler that the quantized network will run under.
        bits: of weights and activations.
        conditioning: what samples are conditioned on, and guidance.
        batch_size: samples per forward pass.
    """

    model: Model
    sampler: Sampler
    bits: Bits
    conditioning: Conditioning | None = None
    batch_size: int = 64

    @property
    def steps(self) -> int:
        """Calls of the network in a run."""
        return len(self.sampler.updates)
