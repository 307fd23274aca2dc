"""How long and how fast is trained: the same for every method that is compared."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from samplers.errors import BadInput
from samplers.validation import require_int


@dataclass(frozen=True)
class FineTuning:
    """Optimizer steps on the denoising loss: AdamW, a linear warm-up, then half a cosine down to 0.

    The network's gradients are clipped to norm 1, as in its own training; those of scales are not.

    Args:
        steps: optimizer steps.
        batch_size: images per step.
        learning_rate: peak for the network.
        scale_rate: peak for the logarithms of scales and bounds, and for the place of zero points among the codes.
        warmup_steps: of both rates.
        weight_decay: decoupled, on weights of convolutions and linear layers only.
        ema_decay: of an average of everything trained, min(ema_decay, (1 + step) / (10 + step)) at each step, which is
            then what is judged and given; None for the parameters themselves.
        evaluate_every: steps between two judgements.
        draws: training images, each with one fixed noise and timestep, on which a checkpoint is judged.
        start_samples: training images on which the first scales are found.

    Raises:
        BadInput: a count below 1, a rate that is not positive, or a decay outside [0, 1).
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    scale_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float | None = None
    evaluate_every: int = 250
    draws: int = 1024
    start_samples: int = 256

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "warmup_steps", "evaluate_every", "draws"):
            require_int(name, getattr(self, name), 1)
        require_int("start_samples", self.start_samples, 2)
        for name in ("learning_rate", "scale_rate"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise BadInput(f"{name} must be positive", got=getattr(self, name), fix="1e-4, say")
        if not 0.0 <= self.weight_decay < float("inf"):
            raise BadInput("weight_decay must be at least 0", got=self.weight_decay, fix="0 is none")
        if self.ema_decay is not None and not 0.0 <= self.ema_decay < 1.0:
            raise BadInput("ema_decay must be in [0, 1)", got=self.ema_decay, fix="None is no average")

    @property
    def preset(self) -> str:
        """Name of the preset that these settings are, or "custom"."""
        return next((name for name, preset in PRESETS.items() if preset == self), "custom")

    def config(self) -> dict[str, Any]:
        """Plain JSON values, with the preset's name."""
        return {"preset": self.preset, **dataclasses.asdict(self)}


FULL = FineTuning()
"""For claims."""

QUICK = FineTuning(steps=600, warmup_steps=30, evaluate_every=100, draws=512, start_samples=128)
"""A few minutes on one core; kept out of claims."""

PRESETS = {"full": FULL, "quick": QUICK}
