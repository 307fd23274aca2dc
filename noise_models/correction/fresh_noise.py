"""Another correction, with the sampler's fresh noise set step by step: how a rule of absorption reaches a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from noise_models.absorption.absorbable import require_absorbing
from noise_models.inference.pooling import Array
from samplers.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.coefficients import Update
    from simulator.correction import Correction


@dataclass(frozen=True, eq=False)
class FreshNoise:
    """``correction``, with the update's weight of fresh noise replaced; its mean stays.

    Args:
        correction: of the prediction.
        sigma: (step,), at least 0 and at most the sampler's own, such as ``carried_excess(...).sigma_used``.

    Raises:
        BadInput: sigma is not a list of finite numbers of at least 0; in use, another number of steps, or a sigma above
            the sampler's own.
    """

    correction: Correction
    sigma: Array

    def __post_init__(self) -> None:
        sigma = np.array(self.sigma, np.float64)
        if sigma.ndim != 1 or not np.isfinite(sigma).all() or (sigma < 0).any():
            raise BadInput("sigma must be finite numbers of at least 0, one per step", got=sigma, fix="see its source")
        sigma.setflags(write=False)
        object.__setattr__(self, "sigma", sigma)

    @property
    def name(self) -> str:
        """That of the correction, with ``-fresh-noise``."""
        return f"{self.correction.name}-fresh-noise"

    def config(self) -> dict[str, Any]:
        """The correction's configuration and every sigma."""
        return {"name": self.name, "correction": self.correction.config(), "sigma": self.sigma.tolist()}

    def check(self, use: dict[str, Any]) -> None:
        """As the correction; and refuse a sampler without one linear weight of fresh noise.

        Raises:
            BadInput: see above.
        """
        require_absorbing(use["sampler"])
        self.correction.check(use)

    def input(self, step: int, x: Tensor) -> Tensor:
        """As the correction."""
        return self.correction.input(step, x)

    def epsilon(self, step: int, epsilon: Tensor, members: np.ndarray) -> Tensor:
        """As the correction."""
        return self.correction.epsilon(step, epsilon, members)

    def update(self, step: int, update: Update) -> Update:
        """The correction's update with this step's sigma.

        Raises:
            BadInput: no sigma for this step, one above the sampler's, or sigmas beyond the last step.
        """
        if update.previous_timestep == -1 and step + 1 < len(self.sigma):
            raise BadInput(
                "sigma must have one entry per step", got=f"{len(self.sigma)} for {step + 1} steps",
                fix="compute it for this sampler",
            )  # fmt: skip
        if step >= len(self.sigma) or self.sigma[step] > update.c * (1 + 1e-6):
            raise BadInput(
                "sigma must have one entry per step, at most the sampler's own",
                got=f"{self.sigma[step] if step < len(self.sigma) else 'none'} at step {step}, where it is {update.c}",
                fix="compute it for this sampler",
            )
        changed = self.correction.update(step, update)
        return changed if self.sigma[step] == changed.c else changed.with_noise(self.sigma[step])
