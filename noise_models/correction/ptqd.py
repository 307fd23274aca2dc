"""PTQD's correction (He et al., NeurIPS 2023): take the predictable part out of quantized epsilon, absorb the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from noise_models.absorption.absorbable import require_absorbing
from noise_models.absorption.rule import VARIANTS, absorb
from noise_models.correction.fitted import per_channel, require_use
from noise_models.inference.pooling import Array
from samplers.errors import BadInput
from samplers.validation import require_bool, require_choice

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.coefficients import Update


@dataclass(frozen=True, eq=False)
class PTQD:
    """Corrected prediction (epsilon^ - bias) / (1 + k), and the update with its noise lowered by what remains.

    Made by :func:`noise_models.correction.ptqd_fit.fit_ptqd`. Compare two by their ``config()``.

    Args:
        k: slope of the noise on epsilon, (step,), at least 0, or above -1 where it is signed.
        bias: per channel, (step, channel).
        residual_variance: sigma_q^2, of the noise left before the division by 1 + k, (step,).
        variant: ``paper`` or ``released``: which bias and sigma_q these are, and how the noise is absorbed.
        absorb: whether to lower the update's noise; without it only the prediction changes.
        source: configuration of the run that it was fitted on, as plain JSON values.
        signed: whether a negative slope was kept; the paper sets it to 0.

    Raises:
        BadInput: an argument breaks its rule.
    """

    k: Array
    bias: Array
    residual_variance: Array
    variant: str
    absorb: bool
    source: Mapping[str, Any]
    signed: bool = False

    def __post_init__(self) -> None:
        require_choice("variant", self.variant, VARIANTS)
        require_bool("absorb", self.absorb)
        require_bool("signed", self.signed)
        for name in ("k", "bias", "residual_variance"):
            values = np.array(getattr(self, name), np.float64) + 0.0  # so that a bias of -0 cannot flip a zero's sign
            if not np.isfinite(values).all():
                raise BadInput(f"{name} must be finite", got=values, fix="fit on a run whose noise is finite")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        steps = self.k.shape
        if len(steps) != 1 or self.bias.shape[:-1] != steps or self.residual_variance.shape != steps:
            raise BadInput(
                "k and residual_variance must be (step,) and bias (step, channel)",
                got=f"{steps}, {self.residual_variance.shape} and {self.bias.shape}",
                fix="use fit_ptqd",
            )
        if ((self.k < 0).any() and not (self.signed and (self.k > -1).all())) or (self.residual_variance < 0).any():
            raise BadInput(
                "k and residual_variance must be at least 0, a signed k above -1",
                got=self.k.min(),
                fix="set a negative k to 0",
            )

    @property
    def name(self) -> str:
        """``ptqd``, ``ptqd-released``; ``-signed`` where negative slopes stay, ``-unabsorbed`` where noise does."""
        variant = "-released" * (self.variant == "released")
        return f"ptqd{variant}" + "-signed" * self.signed + "-unabsorbed" * (not self.absorb)

    def config(self) -> dict[str, Any]:
        """Variant and the whole configuration of the run fitted on, which determine every fitted value."""
        signed = {"signed": True} if self.signed else {}  # named only where it is: keys of other runs stay as they were
        return {"name": self.name, "variant": self.variant, "absorb": self.absorb, **signed, "fit": dict(self.source)}

    def check(self, use: dict[str, Any]) -> None:
        """Refuse a run of another model, scheme or sampler, one on the samples of the fit, and what cannot absorb.

        Raises:
            BadInput: naming the field that differs, or what keeps the sampler's noise from being lowered.
        """
        if self.absorb:
            require_absorbing(use["sampler"], by_element=True)
        require_use(self.source, use)

    def input(self, step: int, x: Tensor) -> Tensor:
        """Unchanged."""
        return x

    def epsilon(self, step: int, epsilon: Tensor, members: np.ndarray) -> Tensor:
        """(epsilon - bias) / (1 + k), in the tensor's dtype; bit-identical to ``epsilon`` where k and bias are 0.

        Args:
            step: loop index.
            epsilon: (batch, channel, ...).
            members: indices of the samples, which do not matter here.
        """
        bias = epsilon.new_tensor(per_channel(self.bias[step], epsilon.ndim))
        return (epsilon - bias) / (1 + float(self.k[step]))

    def update(self, step: int, update: Update) -> Update:
        """The update with its noise lowered, or as it is without ``absorb``."""
        if not self.absorb:
            return update
        return absorb(update, float(self.k[step]), float(self.residual_variance[step]), self.variant)
